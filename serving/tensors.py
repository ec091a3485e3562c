"""Converts NumPy arrays to TensorProtos and back, without TensorFlow.

It works with TensorFlow's TensorProto and with the one of `serving.protos`.
"""

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
# NumPy 1 has no more dimensions. NumPy 2 has, and there TensorFlow crashes on an array of strings with more.
_MAX_RANK = 32


class TensorError(ValueError):
    """A TensorProto cannot become an array, or an array cannot become a TensorProto."""


def type_name(number: int) -> str:
    """The NumPy name of a DataType; "string" for DT_STRING, "DataType <number>" for a type without a NumPy name."""
    if number not in _BY_NUMBER:
        return f"DataType {number}"
    return "string" if _BY_NUMBER[number][0] == _STRING else _BY_NUMBER[number][0].name


def encode(array: np.ndarray) -> Any:
    """The TensorProto of an array, with the elements in `tensor_content`; bytes (dtype object) go into `string_val`.

    Raises:
        TensorError: a dtype without a TensorFlow type, or objects that are not bytes.
    """
    dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    if dtype not in _BY_DTYPE:
        raise TensorError(f"dtype {array.dtype} has no TensorFlow type. Convert the array first")
    proto = TensorProto(dtype=_BY_DTYPE[dtype])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == _STRING:
        elements = array.ravel().tolist()
        if wrong := {type(element).__name__ for element in elements if not isinstance(element, bytes)}:
            raise TensorError(f"an array of dtype object must hold bytes, not {', '.join(sorted(wrong))}")
        proto.string_val.extend(elements)
    else:
        proto.tensor_content = array.astype(dtype, copy=False).tobytes()
    return proto


def strings(values: Iterable[bytes]) -> np.ndarray:
    """An array [N] of bytes, dtype object."""
    return np.fromiter(values, object)


def decode(proto: Any) -> np.ndarray:
    """The array of a TensorProto. Strings become bytes, dtype object. An array of `tensor_content` is read-only.

    Raises:
        TensorError: the elements do not fit the shape, or the type has no NumPy dtype.
    """
    if proto.dtype not in _BY_NUMBER:
        raise TensorError(f"{type_name(proto.dtype)} is not supported")
    dtype, field = _BY_NUMBER[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError("its shape is not fully known")
    if len(shape) > _MAX_RANK:
        raise TensorError(f"it has {len(shape)} dimensions; at most {_MAX_RANK} are supported")
    count = math.prod(shape)
    if proto.tensor_content:
        if dtype == _STRING:
            raise TensorError("strings must be in string_val, not in tensor_content")
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorError(
                f"shape {shape} of {dtype.name} needs {count * dtype.itemsize} bytes,"
                f" tensor_content has {len(proto.tensor_content)}"
            )
        elements = np.frombuffer(proto.tensor_content, dtype)
    elif len(values := getattr(proto, field)) != count:
        raise TensorError(f"shape {shape} needs {count} elements, {field} has {len(values)}")
    elif dtype == _STRING:
        elements = strings(values)
    elif field == "half_val":
        elements = np.array(values, np.int32).astype(np.uint16).view(dtype)
    else:
        # A value that does not fit a narrow type loses its high bits, as in TensorFlow.
        elements = np.array(values, np.int32).astype(dtype) if field == "int_val" else np.array(values, dtype)
    try:
        return elements.reshape(shape)
    except ValueError as error:  # more elements than NumPy allows
        raise TensorError(f"shape {shape} cannot be an array: {error}") from None
