"""The values in pickles of weights, and the few functions that make them; `zoo.published.pickles` runs the pickle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from zoo.errors import CheckpointError
from zoo.limits import AXES, DEPTH, require_at_most


@dataclass(frozen=True)
class Global:
    """A reference to a module's attribute. It is kept as a name and never imported."""

    name: str


PLAIN_OBJECTS = {"sklearn.decomposition._pca.PCA", "sklearn.decomposition.pca.PCA"}
"""Classes whose attributes are kept: numbers and arrays, which are used without the class."""


@dataclass
class Opaque:
    """Stands for an object of an unknown class.

    `items` are those of a mapping of a class of its own, or the attributes of an object of `PLAIN_OBJECTS`.
    """

    name: str
    items: dict | None = field(default=None, compare=False, repr=False)


@dataclass
class Type:
    """A numpy dtype under construction: the constructor gives kind and size, the state gives the byte order."""

    code: str
    order: Literal["<", ">", "|", "="] = "<"

    def dtype(self) -> np.dtype:
        """The finished dtype. Raises `ValueError` unless it is a number's."""
        if (
            not isinstance(self.code, str)
            or self.code[:1] not in tuple("fiubc")
            or self.order not in ("<", ">", "|", "=")
        ):
            raise ValueError(f"dtype {plain(self.code)}")
        return np.dtype(self.code).newbyteorder(self.order)


@dataclass
class Array:
    """A numpy array under construction: empty until the pickle sets its state."""

    value: np.ndarray | Opaque = field(default_factory=lambda: np.empty(0, np.float32))


def plain(value: Any) -> str:
    """A value for a message: text and numbers as they are, anything else by its type, since it may be endless."""
    return repr(value)[:100] if isinstance(value, str | int | float | None) else type(value).__name__


def as_pairs(items: list[Any]) -> dict:
    """Alternating keys and values as a dict."""
    return dict(zip(map(_key, items[::2]), items[1::2], strict=True))


def _key(key: Any) -> str | int:
    """A key as text. Bytes and tuples of texts, as Flax flattens its dicts, are names as well.

    Nothing else is hashed or shown: a tuple that contains itself twice, thirty levels deep, would take for ever.
    """
    if isinstance(key, str | int):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, tuple) and 0 < len(key) <= AXES and all(isinstance(part, str) for part in key):
        return ".".join(key)
    return f"{type(key).__name__} key"


def _ordered(pairs: Any = ()) -> dict:
    """`OrderedDict(pairs)`, whose pairs are lists or tuples of two."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ValueError("an OrderedDict that is not made from pairs")
    return as_pairs([item for pair in pairs for item in pair])


def array(data: Any, kind: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray | Opaque:
    """An array from its bytes; numpy raises `ValueError` if their number does not fit the shape.

    One of texts, objects or records is no tensor, but may stand beside tensors.
    """
    if isinstance(kind, Type) and kind.code[:1] in tuple("OUSVMm"):
        return Opaque(f"an array of {plain(kind.code)}")
    if not isinstance(data, bytes | bytearray | str) or not isinstance(kind, Type) or order not in ("C", "F"):
        raise ValueError("an array that is not made from bytes")
    shape = shape if isinstance(shape, list | tuple) else (shape,)
    require_at_most(AXES, len(shape), "axes of a tensor", "its pickle", CheckpointError)
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.dtype()).reshape(shape, order=order)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in {plain(encoding)}")
    return text.encode("latin1")


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "builtins.tuple": lambda values=(): tuple(values),
    "__builtin__.tuple": lambda values=(): tuple(values),
    "builtins.bytearray": lambda values=b"": values,
    "_codecs.encode": _encoded,
    "numpy.dtype": lambda code, *_: Type(code),
    "numpy.core.multiarray._reconstruct": lambda *_: Array(),
    "numpy._core.multiarray._reconstruct": lambda *_: Array(),
    "numpy.core.numeric._frombuffer": array,
    "numpy._core.numeric._frombuffer": array,
}
"""What is called instead of the functions of these names."""


_COMPOUND = (Array, Opaque, dict, list, tuple)


def finished(value: Any, done: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Replaces every `Array` in a value by the numpy array. Objects that are shared stay shared."""
    done = {} if done is None else done
    if isinstance(value, Array):
        return value.value
    if isinstance(value, Opaque):
        if value.items is not None and id(value) not in done:
            done[id(value)] = value
            value.items = finished(value.items, done, depth + 1)
        return value
    if not isinstance(value, dict | list | tuple):
        return value
    require_at_most(DEPTH, depth, "levels of nesting", "its pickle", CheckpointError)
    if id(value) not in done:
        if isinstance(value, dict):
            made = {
                key: finished(item, done, depth + 1) if isinstance(item, _COMPOUND) else item
                for key, item in value.items()
            }
        else:
            made = type(value)(
                finished(item, done, depth + 1) if isinstance(item, _COMPOUND) else item for item in value
            )
        done[id(value)] = made
    return done[id(value)]
