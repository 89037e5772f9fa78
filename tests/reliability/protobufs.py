"""Strategies that change a valid protobuf message field by field, whatever its type."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

_NUMBERS = (0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**62))
_FLOATS = (0.0, -1.0, 1e38, float("nan"), float("inf"))
_TEXTS = ("", "x", "x:0", "x:y:z", "^x", "../x", "é", "a" * 5000, "serving_default", "f")
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 2**31 - 1),
}


@st.composite
def changed(draw: st.DrawFn, kind: type[Message], valid: bytes, texts: tuple[str, ...] = (), most: int = 3) -> bytes:
    """A message with one to `most` fields removed, repeated, or set to a value that no such message has.

    Args:
        kind: the message's class.
        valid: a serialised message.
        texts: names that occur in it, so that references may lead to another place.
    """
    message = kind.FromString(valid)
    for _ in range(draw(st.integers(1, most))):
        _change_one(draw, message, texts)
    return message.SerializePartialToString()


def _change_one(draw: st.DrawFn, message: Any, texts: tuple[str, ...]) -> None:
    """Walks down to a random field and changes it."""
    while True:
        fields = [field for field, _ in message.ListFields()]
        if not fields:
            return
        field = draw(st.sampled_from(fields))
        inside = _messages(message, field)
        if inside and draw(st.integers(0, 9)) < 8:
            message = draw(st.sampled_from(inside))
            continue
        _set(draw, message, field, texts)
        return


def _repeated(field: FieldDescriptor) -> bool:
    return field.label == FieldDescriptor.LABEL_REPEATED


def _messages(message: Any, field: FieldDescriptor) -> list[Any]:
    """The messages in a field."""
    if field.message_type is None:
        return []
    value = getattr(message, field.name)
    if field.message_type.GetOptions().map_entry:
        return [item for item in value.values() if isinstance(item, Message)]
    return list(value) if _repeated(field) else [value]


def _set(draw: st.DrawFn, message: Any, field: FieldDescriptor, texts: tuple[str, ...]) -> None:
    value = getattr(message, field.name)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if field.message_type is not None or draw(st.integers(0, 3)) == 0:
        if _repeated(field) and not is_map and len(value):
            kind = draw(st.sampled_from(("clear", "last", "twice")))
            if kind == "twice":
                value.extend([value[0]])
            elif kind == "last":
                del value[-1]
            else:
                message.ClearField(field.name)
        else:
            message.ClearField(field.name)
        return
    drawn = draw(_value(field, texts))
    if _repeated(field):
        place = draw(st.integers(0, len(value)))
        value.append(drawn) if place == len(value) else value.__setitem__(place, drawn)
    else:
        setattr(message, field.name, drawn)


def _value(field: FieldDescriptor, texts: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        words = st.sampled_from((*_TEXTS, *texts))
        return words.map(str.encode) if field.type == FieldDescriptor.TYPE_BYTES else words
    if field.enum_type is not None and field.enum_type.is_closed:  # protobuf refuses to set another number
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type in _INTEGERS:
        low, high = _INTEGERS[field.cpp_type]
        return st.sampled_from([number for number in _NUMBERS if low <= number <= high])
    return st.booleans() if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else st.sampled_from(_FLOATS)
