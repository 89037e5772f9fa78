"""Reads pickles as data: nothing that a pickle refers to is ever imported or called.

A pickle is a program for a small stack machine. Python's `pickle` module executes it and calls any function that the
program names. The interpreter here recognises only the few constructors that files of weights use and builds plain
values for them. Every other object becomes `Opaque`, which has no behaviour. Format:
https://docs.python.org/3/library/pickletools.html
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

import numpy as np

from zoo.errors import CheckpointError


@dataclass(frozen=True)
class Global:
    """A reference to a module's attribute. It is kept as a name and never imported."""

    name: str


@dataclass
class Opaque:
    """Stands for an object of an unknown class."""

    name: str


@dataclass
class Type:
    """A numpy dtype under construction: the constructor gives kind and size, the state gives the byte order."""

    code: str
    order: Literal["<", ">", "|", "="] = "<"

    def dtype(self) -> np.dtype:
        """The finished dtype. Raises `ValueError` unless it is a number's."""
        if self.code[:1] not in "fiub" or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"dtype {self.code!r}")
        return np.dtype(self.code).newbyteorder(self.order)


@dataclass
class Array:
    """A numpy array under construction: empty until the pickle sets its state."""

    value: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


_MARK = object()
Constructor = Callable[..., Any]


def read_pickle(
    file: BinaryIO,
    constructors: dict[str, Constructor] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads the pickle that starts at the file's current position; afterwards the position is just behind the pickle.

    Args:
        file: opened in binary mode.
        constructors: functions to call instead of the ones that the file names, for example
            "torch._utils._rebuild_tensor_v2".
        persistent: maps a persistent id (a tuple) to its value.

    Returns:
        dict, list, tuple, str, bytes, numbers, None, numpy arrays, what `constructors` and `persistent` return, and
        `Opaque` for everything else.

    Raises:
        CheckpointError: the data is not a pickle, is cut off, or has an opcode that files of weights do not use.
    """
    machine = _Machine({**_CONSTRUCTORS, **(constructors or {})}, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return _finished(machine.stack.pop())
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise CheckpointError(f"not a file of weights, or not readable without executing it: {error}") from error
    raise CheckpointError("the pickle has no end")


class _Machine:
    """The stack machine; each method `_opcode` executes the opcode of that name."""

    def __init__(self, constructors: dict[str, Constructor], persistent: Callable[[Any], Any] | None) -> None:
        self.constructors, self.persistent = constructors, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _REMEMBER:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in _RECALL:
            self.stack.append(self.memo[argument])
        else:
            handler = getattr(self, f"_{name.lower()}", None)
            if handler is None:
                raise ValueError(f"the opcode {name}")
            handler(argument)

    def _items(self) -> list[Any]:
        """Removes and returns everything on the stack above the last mark."""
        start = max(index for index, value in enumerate(self.stack) if value is _MARK)
        items, self.stack[start:] = self.stack[start + 1 :], []
        return items

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._items()

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._items()))

    def _tuple1(self, _: Any, count: int = 1) -> None:
        items, self.stack[-count:] = tuple(self.stack[-count:]), []
        self.stack.append(items)

    def _tuple2(self, _: Any) -> None:
        self._tuple1(None, 2)

    def _tuple3(self, _: Any) -> None:
        self._tuple1(None, 3)

    def _list(self, _: Any) -> None:
        self.stack.append(self._items())

    def _dict(self, _: Any) -> None:
        self.stack.append(_pairs(self._items()))

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._items())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._items())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_pairs(items))

    def _additems(self, _: Any) -> None:
        self._items()

    def _global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, Global) else type(function).__name__
        constructor = self.constructors.get(name)
        self.stack.append(constructor(*arguments) if constructor else Opaque(name))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Array):
            _, shape, kind, fortran, data = state
            self.stack[-1].value = _array(data, kind, shape, "F" if fortran else "C")
        elif isinstance(self.stack[-1], Type):
            self.stack[-1].order = state[1]

    def _binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("a persistent id")
        self.stack.append(self.persistent(self.stack.pop()))


_IGNORED = {"PROTO", "FRAME"}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: Opaque("set"),
}
_REMEMBER = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_RECALL = {"GET", "BINGET", "LONG_BINGET"}


def _pairs(items: list[Any]) -> dict:
    """Alternating keys and values as a dict. Keys other than strings and integers cannot be tensor names and become text."""
    keys = (key if isinstance(key, str | int) else f"{type(key).__name__} key" for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))


def _array(data: Any, kind: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    """An array from its bytes; numpy raises `ValueError` if their number does not fit the shape."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.dtype()).reshape(shape, order=order)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in {encoding!r}")
    return text.encode("latin1")


_CONSTRUCTORS: dict[str, Constructor] = {
    "collections.OrderedDict": lambda pairs=(): dict(pairs),
    "builtins.tuple": lambda values=(): tuple(values),
    "__builtin__.tuple": lambda values=(): tuple(values),
    "builtins.bytearray": lambda values=b"": values,
    "_codecs.encode": _encoded,
    "numpy.dtype": lambda code, *_: Type(code),
    "numpy.core.multiarray._reconstruct": lambda *_: Array(),
    "numpy._core.multiarray._reconstruct": lambda *_: Array(),
    "numpy.core.numeric._frombuffer": _array,
    "numpy._core.numeric._frombuffer": _array,
}


def _finished(value: Any, done: dict[int, Any] | None = None) -> Any:
    """Replaces every `Array` in a value by the numpy array. Objects that are shared stay shared."""
    done = {} if done is None else done
    if isinstance(value, Array):
        return value.value
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _finished(item, done) for key, item in value.items()}
        else:
            done[id(value)] = type(value)(_finished(item, done) for item in value)
    return done[id(value)]
