"""TensorProtos without TensorFlow, compared with TensorFlow's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.protos import DataType, TensorProto
from serving.tensors import TensorError, decode, encode, strings, type_name
from tests.serving.rpc import fill

NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
SHAPES = [(), (1,), (0, 3), (2, 3), (3, 1, 2)]


def example(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random elements of the whole range of the dtype."""
    generator = np.random.default_rng(7)
    if dtype == "O":
        return strings([generator.bytes(size) for size in range(int(np.prod(shape)))]).reshape(shape)
    if dtype == "?":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.startswith("f"):
        return (generator.normal(size=shape) * 100).astype(dtype)
    bounds = np.iinfo(dtype)
    return generator.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


def proto(dtype: str, shape: list[int], **fields: Any) -> Any:
    message = TensorProto(dtype=DataType.values_by_name[dtype].number, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*NUMBERS, "O"])
def test_every_type_comes_back_and_tensorflow_reads_it(dtype: str, shape: tuple[int, ...]) -> None:
    array = example(dtype, shape)
    sent = encode(array)
    same(decode(sent), array)
    theirs = tensor_pb2.TensorProto.FromString(sent.SerializeToString())
    same(tf.make_ndarray(theirs), array)
    parsed = tf.io.parse_tensor(sent.SerializeToString(), tf.dtypes.as_dtype(sent.dtype)).numpy()
    assert np.array_equal(parsed, array)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*NUMBERS, "O"])
def test_what_tensorflow_makes_is_read_by_content_and_by_field(dtype: str, shape: tuple[int, ...]) -> None:
    array = example(dtype, shape)
    of_tensorflow = tf.make_tensor_proto(array, shape=shape)
    same(decode(of_tensorflow), array)
    same(decode(TensorProto.FromString(of_tensorflow.SerializeToString())), array)
    by_field = TensorProto()
    fill(by_field, array)
    assert not by_field.tensor_content
    same(decode(by_field), array)
    if array.size:  # TensorFlow reads an empty field as one zero
        same(tf.make_ndarray(tensor_pb2.TensorProto.FromString(by_field.SerializeToString())), array)


def test_other_byte_orders_and_other_layouts_are_sent_as_they_read() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    np.testing.assert_array_equal(decode(encode(array)), array)
    for view in (array.T, array[::2, ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(decode(encode(view)), view)
    words = strings([b"a", b"b", b"c", b"d"]).reshape(2, 2)
    assert decode(encode(words.T)).tolist() == [[b"a", b"c"], [b"b", b"d"]]


@pytest.mark.filterwarnings("error::DeprecationWarning")  # NumPy deprecates the conversion
def test_a_value_too_wide_for_its_type_is_cut_as_tensorflow_cuts_it() -> None:
    sent = proto("DT_UINT8", [2], int_val=[300, -1])
    parsed = tf.io.parse_tensor(sent.SerializeToString(), tf.uint8).numpy()
    same(decode(sent), parsed)


BROKEN = {
    "needs 24 bytes, tensor_content has 20": proto("DT_FLOAT", [2, 3], tensor_content=bytes(20)),
    "needs 0 bytes, tensor_content has 4": proto("DT_FLOAT", [0, 3], tensor_content=bytes(4)),
    "needs 2 elements, float_val has 3": proto("DT_FLOAT", [2], float_val=[1, 2, 3]),
    "needs 0 elements, float_val has 1": proto("DT_FLOAT", [0], float_val=[1]),
    "1000000000000 elements, float_val has 1": proto("DT_FLOAT", [10**12], float_val=[1]),
    "1000000000000 elements, string_val has 0": proto("DT_STRING", [10**6, 10**6]),
    "bytes, tensor_content has 4": proto("DT_FLOAT", [2**62, 2**62], tensor_content=bytes(4)),
    "its shape is not fully known": proto("DT_FLOAT", [-1, 2], float_val=[1, 2]),
    "strings must be in string_val": proto("DT_STRING", [1], tensor_content=b"x"),
    "it has 65 dimensions; at most 32 are supported": proto("DT_FLOAT", [1] * 65, float_val=[1]),
    "it has 33 dimensions; at most 32 are supported": proto("DT_STRING", [0] * 33),
    "cannot be an array": proto("DT_FLOAT", [0, 2**62, 2**62]),
    "DataType 0 is not supported": TensorProto(),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_tensor_that_is_no_array_says_why(message: str) -> None:
    with pytest.raises(TensorError, match=message):
        decode(BROKEN[message])


def test_an_unknown_rank_and_a_foreign_type_are_refused() -> None:
    unknown = TensorProto(dtype=1, float_val=[1])
    unknown.tensor_shape.unknown_rank = True
    with pytest.raises(TensorError, match="its shape is not fully known"):
        decode(unknown)
    bfloat16 = tf.make_tensor_proto(tf.constant([1.0], tf.bfloat16))
    with pytest.raises(TensorError, match="DataType 14 is not supported"):
        decode(bfloat16)
    for array in (np.zeros(2, np.complex64), np.array(["text"]), np.array([b"x"]), np.zeros(1, "datetime64[s]")):
        with pytest.raises(TensorError, match=r"has no TensorFlow type\. Convert the array first"):
            encode(array)


def test_random_damage_is_an_error_or_an_array_of_the_shape() -> None:
    """A damaged TensorProto gives a TensorError, never another exception or a huge array."""
    generator = np.random.default_rng(11)
    fields = ("float_val", "int_val", "int64_val", "half_val", "bool_val", "uint32_val", "double_val")
    answered = 0
    for _ in range(3000):
        shape = [
            int(2 ** generator.integers(0, 50)) * int(generator.integers(-1, 3)) for _ in range(generator.integers(4))
        ]
        sent = proto("DT_INVALID", shape)
        sent.dtype = int(generator.integers(0, 25))
        if generator.integers(2):
            sent.tensor_content = generator.bytes(int(generator.integers(0, 9)))
        getattr(sent, str(generator.choice(fields))).extend([1] * int(generator.integers(0, 4)))
        try:
            found = decode(sent)
        except TensorError:
            continue
        assert list(found.shape) == shape and found.nbytes <= 64
        answered += 1
    assert answered > 100


def test_types_have_numpy_names() -> None:
    assert [type_name(number) for number in (1, 4, 7, 9, 19, 99)] == [
        "float32", "uint8", "string", "int64", "float16", "DataType 99",
    ]  # fmt: skip
