"""NumPy arrays to TensorProtos and back, without TensorFlow. Works on any class of TensorProto."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from serving.protos import DataType, TensorProto

_STRING = np.dtype(object)
_FIELDS: dict[str, tuple[np.dtype, str]] = {
    "DT_FLOAT": (np.dtype("<f4"), "float_val"),
    "DT_DOUBLE": (np.dtype("<f8"), "double_val"),
    "DT_INT32": (np.dtype("<i4"), "int_val"),
    "DT_UINT8": (np.dtype("u1"), "int_val"),
    "DT_INT16": (np.dtype("<i2"), "int_val"),
    "DT_INT8": (np.dtype("i1"), "int_val"),
    "DT_STRING": (_STRING, "string_val"),
    "DT_INT64": (np.dtype("<i8"), "int64_val"),
    "DT_BOOL": (np.dtype("?"), "bool_val"),
    "DT_UINT16": (np.dtype("<u2"), "int_val"),
    "DT_HALF": (np.dtype("<f2"), "half_val"),
    "DT_UINT32": (np.dtype("<u4"), "uint32_val"),
    "DT_UINT64": (np.dtype("<u8"), "uint64_val"),
}
_BY_NUMBER = {DataType.values_by_name[name].number: fields for name, fields in _FIELDS.items()}
_BY_DTYPE = {dtype: number for number, (dtype, _) in _BY_NUMBER.items()}
# The most a message may unfold to when its last element stands for the rest: no image comes near.
_UNFOLDED = 64 * 2**20


class TensorError(ValueError):
    """A TensorProto that cannot be an array, or an array that cannot be a TensorProto."""


def type_name(number: int) -> str:
    """The NumPy name of a DataType, "string" for DT_STRING, its number where there is none."""
    if number not in _BY_NUMBER:
        return f"DataType {number}"
    return "string" if _BY_NUMBER[number][0] == _STRING else _BY_NUMBER[number][0].name


def encode(array: np.ndarray) -> Any:
    """A TensorProto with the elements in `tensor_content`; arrays of bytes (dtype object) go into `string_val`.

    Raises:
        TensorError: a dtype that TensorFlow Serving does not know.
    """
    number = _number(array.dtype)
    proto = TensorProto(dtype=number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    dtype = _BY_NUMBER[number][0]
    if dtype == _STRING:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.astype(dtype, copy=False).tobytes()
    return proto


def strings(values: Iterable[bytes]) -> np.ndarray:
    """An array [N] of bytes, dtype object."""
    return np.fromiter(values, object)


def fill(proto: Any, array: np.ndarray) -> None:
    """Writes `array` to `proto` as TensorFlow Serving answers: each element in the field of its type.

    Raises:
        TensorError: a dtype that TensorFlow Serving does not know.
    """
    proto.dtype = _number(array.dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    elements = array.view(np.uint16) if array.dtype == np.float16 else array
    getattr(proto, _BY_NUMBER[proto.dtype][1]).extend(elements.ravel().tolist())


def decode(proto: Any) -> np.ndarray:
    """The array of a TensorProto, read-only where it came as `tensor_content`; strings as bytes, dtype object.

    Raises:
        TensorError: the elements do not fill the shape, or its type is none an array can have.
    """
    if proto.dtype not in _BY_NUMBER:
        raise TensorError(f"{type_name(proto.dtype)} is no type that can be sent")
    dtype, field = _BY_NUMBER[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError("its shape is not fully known")
    count = math.prod(shape)
    if proto.tensor_content:
        if dtype == _STRING:
            raise TensorError("strings belong into string_val, not tensor_content")
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorError(
                f"shape {shape} of {dtype.name} takes {count * dtype.itemsize} bytes,"
                f" tensor_content has {len(proto.tensor_content)}"
            )
        return _shaped(np.frombuffer(proto.tensor_content, dtype), shape)
    values = getattr(proto, field)
    if len(values) > count:
        raise TensorError(f"shape {shape} takes {count} elements, {field} has {len(values)}")
    weight = max(dtype.itemsize, len(values[-1]) if dtype == _STRING and len(values) else 0)
    if len(values) < count and count * weight > _UNFOLDED:
        raise TensorError(f"shape {shape} takes {count} elements, {field} has {len(values)} and will not be unfolded")
    if dtype == _STRING:
        given = strings(values)
    elif field == "half_val":
        given = np.array(values, np.int32).astype(np.uint16).view(dtype)
    else:
        # What does not fit a narrow type is cut, as TensorFlow does.
        given = np.array(values, np.int32).astype(dtype) if field == "int_val" else np.array(values, dtype)
    if len(values) < count:
        filler = given[-1] if len(given) else b"" if dtype == _STRING else dtype.type(0)
        given = np.concatenate([given, np.full(count - len(given), filler, dtype)])
    return _shaped(given, shape)


def _shaped(elements: np.ndarray, shape: list[int]) -> np.ndarray:
    try:
        return elements.reshape(shape)
    except ValueError as error:  # more dimensions, or sizes, than NumPy can count
        raise TensorError(f"shape {shape} cannot be an array: {error}") from None


def _number(dtype: np.dtype) -> int:
    try:
        return _BY_DTYPE[dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype]
    except KeyError:
        raise TensorError(f"dtype {dtype} has no TensorFlow type; convert the array first") from None
