"""Reads pickles as data: nothing that a pickle refers to is ever imported or called.

A pickle is a program for a small stack machine. Python's `pickle` module executes it and calls any function that the
program names. The interpreter here recognises only the few constructors that files of weights use and builds plain
values for them. Every other object becomes `Opaque`, which has no behaviour. Format:
https://docs.python.org/3/library/pickletools.html
"""

import functools
import io
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from zoo.errors import CheckpointError
from zoo.limits import PICKLE_COPIES, PICKLE_STEPS, PICKLE_TEXT, require_at_most
from zoo.published.pickled_values import (
    CONSTRUCTORS,
    PLAIN_OBJECTS,
    Array,
    Global,
    Opaque,
    Type,
    array,
    as_pairs,
    finished,
)

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
    machine = _Machine({**CONSTRUCTORS, **(constructors or {})}, persistent, _left(file))
    return _run(file, machine, "a file of weights")


def read_plain_pickle(file: BinaryIO) -> Any:
    """As `read_pickle`, for files that need no class: one that names any class or function, even a harmless one, is an error.

    Returns:
        dict, list, tuple, str, bytes, numbers, None, and `Opaque` for a set.

    Raises:
        CheckpointError: as `read_pickle`, or the pickle names a class or a function.
    """
    machine = _Machine({}, None, _left(file))
    machine.steps.update(dict.fromkeys(_CLASSES, _refuse_class))
    return _run(file, machine, "plain values")


def _refuse_class(name: Any) -> None:
    named = f", {str(name)[:80]!r}" if name else ""
    raise CheckpointError(f"it names a class or a function{named}, which plain values do not need")


def _run(file: BinaryIO, machine: "_Machine", expected: str) -> Any:
    """What the pickle leaves on the machine's stack."""
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
            if steps > PICKLE_STEPS:
                require_at_most(PICKLE_STEPS, steps, "steps", "its pickle", CheckpointError)
            if opcode.name == "STOP":
                return finished(machine.stack.pop())
            machine.steps.get(opcode.name, machine.unknown)(argument)
    except CheckpointError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, RecursionError) as error:
        if _ends(file):
            raise CheckpointError("it is cut off: its pickle has no end") from error
        raise CheckpointError(f"not {expected}, or not readable without executing it: {error}") from error
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
    """The stack machine; `steps` has what each opcode does."""

    def __init__(
        self, constructors: dict[str, Constructor], persistent: Callable[[Any], Any] | None, size: int
    ) -> None:
        self.constructors, self.persistent = constructors, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied, self.size = 0, size

        self.steps: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(_IGNORED, lambda _: None),
            **dict.fromkeys(_LITERALS, self.stack.append),
            **dict.fromkeys(_TEXTS, self._text),
            **{name: functools.partial(self._constant, make) for name, make in _CONSTANTS.items()},
            **dict.fromkeys(_REMEMBER, self._remember),
            **dict.fromkeys(_RECALL, self._recall),
            **{name: getattr(self, f"_{name.lower()}") for name in _OTHERS},
        }

    def unknown(self, _: Any) -> None:
        """An opcode that files of weights do not use."""
        raise ValueError("an opcode that files of weights do not use")

    def _text(self, argument: str) -> None:
        require_at_most(PICKLE_TEXT, len(argument), "characters in one text", "its pickle", CheckpointError)
        self.stack.append(argument)

    def _constant(self, make: Callable[[], Any], _: Any) -> None:
        self.stack.append(make())

    def _remember(self, argument: int | None) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def _recall(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

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
        self.stack.append(as_pairs(self._items()))

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
            target.update(as_pairs(items))
        elif isinstance(target, Opaque):
            target.items = {} if target.items is None else target.items
            target.items.update(as_pairs(items))

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
            self.stack[-1].value = array(data, kind, shape, "F" if fortran else "C")
        elif isinstance(self.stack[-1], Type):
            self.stack[-1].order = state[1]
        elif isinstance(self.stack[-1], Opaque) and self.stack[-1].name in PLAIN_OBJECTS and isinstance(state, dict):
            self.stack[-1].items = state

    def _binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("a persistent id")
        self.stack.append(self.persistent(self.stack.pop()))


_COPIED = (str, list, tuple, dict)
_IGNORED = {"PROTO", "FRAME"}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_OTHERS = {
    *("MARK", "POP", "POP_MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "APPEND", "APPENDS", "SETITEM"),
    *("SETITEMS", "ADDITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
}
_CLASSES = {
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "INST", "OBJ", "PERSID", "BINPERSID"),
    *("EXT1", "EXT2", "EXT4"),
}
"""Opcodes that name a class or a function, or use one."""
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
