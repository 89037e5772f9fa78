"""Reads dataclasses from plain values strictly: unknown keys, wrong types and values out of range are errors.

msgspec checks types and the bounds that the fields' annotations state (`Annotated[int, Meta(ge=1)]`).
"""

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from zoo.errors import SpecError

Count = Annotated[int, Meta(ge=1, le=65536)]
"""A number of channels, blocks, images per batch, epochs …"""
NonNegativeInt = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seed = Annotated[int, Meta(ge=0, le=2**62)]
"""Members of an ensemble have consecutive seeds, so that the largest must not be the largest int64."""
Port = Annotated[int, Meta(ge=0, le=65535)]
"""Of TCP; 0 takes a free one."""
Pixels = Annotated[int, Meta(ge=32, le=8192)]
"""A side in pixels; 32 is the backbones' stride."""
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
"""From 0 to 1, both included."""
Colour = Annotated[float, Meta(ge=0, le=255)]
"""A mean or a deviation of pixels; `zoo.checkpoint.check_preprocess` says what to give instead of values for 0 to 255."""
Weight = Annotated[float, Meta(gt=0, le=1000)]
"""A member's factor in an ensemble."""
Scale = Annotated[float, Meta(ge=0.05, le=20)]
"""A factor of the resolution."""

Kind = TypeVar("Kind")
NO_READERS: Mapping[type, Callable[[Any], Any]] = MappingProxyType({})


def read_fields(
    kind: type[Kind], values: object, where: str, readers: Mapping[type, Callable[[Any], Any]] = NO_READERS
) -> Kind:
    """A dataclass, nested ones included, from mappings, lists, numbers and strings.

    Args:
        kind: the dataclass.
        values: parsed JSON or YAML.
        where: the name of the values in errors, for example "recipe".
        readers: how fields of types that are no dataclasses are read, by type; each raises `SpecError`.

    Raises:
        SpecError: an unknown or a missing key, a value of the wrong type, a number out of range or not finite. The
            message
            contains the path of the key: `recipe.stages[0].margin`.
    """
    if not isinstance(values, dict):
        raise SpecError(f"{where}: expected a mapping, found {values!r}")
    _check_keys(kind, values, where)
    try:
        return msgspec.convert(values, kind, dec_hook=lambda wanted, value: _read_with(readers[wanted], value))
    except UnicodeEncodeError as error:
        raise SpecError(f"{where}: a text holds half of a surrogate pair, which is no character") from error
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        place = where + path.rstrip("`")
        null = ", or null" if _optional(kind, path) else ""
        raise SpecError(f"{place}: {_plain(message)}{null}{_found(values, path)}") from error


def _read_with(reader: Callable[[Any], Any], value: object) -> Any:
    try:
        return reader(value)
    except SpecError as error:
        raise ValueError(str(error)) from error  # to which msgspec adds the path


def require(kind: Any, value: Any, name: str = "") -> Any:
    """A value, if it is one of a bounded type.

    Args:
        kind: a type of this module, or any type that msgspec knows.
        value: what to check.
        name: of the value, for the message.

    Raises:
        SpecError: it is of another type, out of range or not finite.
    """
    where = f"{name}: " if name else ""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}expected a finite number, found {value}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}{_plain(str(error))}, found {str(value)[:40]}") from error


def _check_keys(kind: Any, value: object, where: str) -> None:
    """Refuses what msgspec accepts or reports poorly: unknown keys, unknown choices and numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}: expected a finite number, found {value}")
    if typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
        raise SpecError(f"{where}: expected one of {', '.join(map(repr, typing.get_args(kind)))}, found {value!r}")
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        for key, item in value.items():
            if key not in hints:
                raise SpecError(f"{where}: unknown key {key!r}{_hint(str(key), hints)}")
            _check_keys(hints[key], item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        inner = next(iter(typing.get_args(kind)), None)
        for index, item in enumerate(value):
            _check_keys(inner, item, f"{where}[{index}]")


def _optional(kind: Any, path: str) -> bool:
    """Whether the key of a dataclass at a path of one name may be null."""
    hint = typing.get_type_hints(kind, include_extras=True).get(path.strip("`."))
    return type(None) in typing.get_args(hint)


def _hint(key: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; expected one of {', '.join(known)}"


def _plain(message: str) -> str:
    """msgspec's message in this project's style: "expected int, found str"."""
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        return f"the key {missing[1]!r} is missing"
    message = re.sub(r"array of length (\d+)", r"\1 values", message.replace("`", ""))
    message = message.replace("array of length", "a list of length")
    for word, plain in (("array", "a list"), ("object", "a mapping"), ("str", "text")):
        message = re.sub(rf"\b(expected|found|got) {word}\b", rf"\1 {plain}", message, flags=re.IGNORECASE)
    return message[:1].lower() + message[1:].replace("got", "found")


def _found(values: Any, path: str) -> str:
    """The offending value, if the path leads to one."""
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        try:
            values = values[name or int(index)]
        except (KeyError, IndexError, TypeError):
            return ""
    return "" if isinstance(values, dict | list) or not path else f" (the value is {values!r})"
