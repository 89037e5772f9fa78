"""Reads pickles as data: nothing that a pickle refers to is ever imported or called.

A pickle is a program for a small stack machine. Python's `pickle` module executes it and calls any function that the
program names. The interpreter here recognises only the few constructors that files of weights use and builds plain
values for them. Every other object becomes `Opaque`, which has no behaviour. Format:
https://docs.python.org/3/library/pickletools.html
"""

import io
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

import numpy as np

from zoo.errors import CheckpointError
from zoo.limits import AXES, DEPTH, PICKLE_COPIES, PICKLE_STEPS, PICKLE_TEXT, require_at_most


@dataclass(frozen=True)
class Global:
    """A reference to a module's attribute. It is kept as a name and never imported."""

    name: str


@dataclass
class Opaque:
    """Stands for an object of an unknown class. `items` are those of a mapping of a class of its own."""

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

    value: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


Constructor = Callable[..., Any]


def plain(value: Any) -> str:
    """A value for a message: text and numbers as they are, anything else by its type, since it may be endless."""
    return repr(value)[:100] if isinstance(value, str | int | float | None) else type(value).__name__


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
    machine = _Machine({**_CONSTRUCTORS, **(constructors or {})}, persistent, _left(file))
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            require_at_most(PICKLE_STEPS, step, "steps", "its pickle", CheckpointError)
            if opcode.name == "STOP":
                return _finished(machine.stack.pop())
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, RecursionError) as error:
        if _ends(file):
            raise CheckpointError("it is cut off: its pickle has no end") from error
        raise CheckpointError(f"not a file of weights, or not readable without executing it: {error}") from error
    raise CheckpointError("it is cut off: its pickle has no end")


def _left(file: BinaryIO) -> int:
    """Bytes from the current position to the end."""
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return end - start


def _ends(file: BinaryIO) -> bool:
    """Whether nothing is left to read."""
    return not file.read(1)


class _Machine:
    """The stack machine; each method `_opcode` executes the opcode of that name."""

    def __init__(
        self, constructors: dict[str, Constructor], persistent: Callable[[Any], Any] | None, size: int
    ) -> None:
        self.constructors, self.persistent = constructors, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied, self.size = 0, size

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _LITERALS:
            if isinstance(argument, str):
                require_at_most(PICKLE_TEXT, len(argument), "characters in one text", "its pickle", CheckpointError)
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

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _items(self) -> list[Any]:
        """Removes and returns everything on the stack above the last mark."""
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
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
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(items))
        elif isinstance(target, Opaque):
            target.items = {} if target.items is None else target.items
            target.items.update(_pairs(items))

    def _additems(self, _: Any) -> None:
        self._items()

    def _global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is not text")
        self.stack.append(Global(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, Global) else type(function).__name__
        constructor = self.constructors.get(name)
        if constructor is None:
            # A class with a constructor of its own is rebuilt by one of copyreg's functions, which gets it as an argument.
            made = (
                next((a.name for a in arguments if isinstance(a, Global)), name) if name.startswith("copyreg") else name
            )
            self.stack.append(Opaque(made))
        else:
            self._copy(arguments)
            self.stack.append(constructor(*arguments))

    def _copy(self, arguments: Any) -> None:
        """Counts what a constructor copies: a pickle may have it copy the same value again and again."""
        for value in arguments if isinstance(arguments, tuple) else ():
            self.copied += len(value) * (1 if isinstance(value, str) else 64) if isinstance(value, _COPIED) else 0
        require_at_most(PICKLE_COPIES + self.size, self.copied, "bytes of copies", "its pickle", CheckpointError)

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Array):
            _, shape, kind, fortran, data = state
            self._copy((data,) if isinstance(data, str) else ())
            self.stack[-1].value = _array(data, kind, shape, "F" if fortran else "C")
        elif isinstance(self.stack[-1], Type):
            self.stack[-1].order = state[1]

    def _binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("a persistent id")
        self.stack.append(self.persistent(self.stack.pop()))


_COPIED = (str, list, tuple, dict)
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
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: Opaque("set"),
}
_REMEMBER = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_RECALL = {"GET", "BINGET", "LONG_BINGET"}


def _pairs(items: list[Any]) -> dict:
    """Alternating keys and values as a dict. Keys other than strings and integers cannot be tensor names and become text.

    Nothing else is hashed or shown as text: a tuple that contains itself twice, thirty levels deep, would take for ever.
    """
    keys = (key if isinstance(key, str | int) else f"{type(key).__name__} key" for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))


def _ordered(pairs: Any = ()) -> dict:
    """`OrderedDict(pairs)`, whose pairs are lists or tuples of two."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ValueError("an OrderedDict that is not made from pairs")
    return _pairs([item for pair in pairs for item in pair])


def _array(data: Any, kind: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    """An array from its bytes; numpy raises `ValueError` if their number does not fit the shape."""
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


_CONSTRUCTORS: dict[str, Constructor] = {
    "collections.OrderedDict": _ordered,
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


def _finished(value: Any, done: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Replaces every `Array` in a value by the numpy array. Objects that are shared stay shared."""
    done = {} if done is None else done
    if isinstance(value, Array):
        return value.value
    if isinstance(value, Opaque):
        if value.items is not None and id(value) not in done:
            done[id(value)] = value
            value.items = _finished(value.items, done, depth + 1)
        return value
    if not isinstance(value, dict | list | tuple):
        return value
    require_at_most(DEPTH, depth, "levels of nesting", "its pickle", CheckpointError)
    if id(value) not in done:
        if isinstance(value, dict):
            made = {key: _finished(item, done, depth + 1) for key, item in value.items()}
        else:
            made = type(value)(_finished(item, done, depth + 1) for item in value)
        done[id(value)] = made
    return done[id(value)]
