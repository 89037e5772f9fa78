"""Reads HDF5 files as Keras writes them: groups, contiguous arrays of numbers, and attributes that are texts.

The HDF5 library itself crashes or does not return on damaged files, so it is not used. Every length and address is compared with the
file before it is believed, and every object is read once. What Keras does not write (chunks, filters, links to other files,
groups indexed by creation order) is refused by name.

Source: HDF5 File Format Specification, version 3.0; numbers in comments are its sections.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from zoo.errors import CheckpointError
from zoo.limits import AXES, DEPTH, HDF5_MESSAGES, HDF5_METADATA, HDF5_OBJECTS, NAME, require_at_most

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1
"""The address of what is not in the file."""
_FLOATS = {
    struct.pack("<HHBBBBI", 0, 16, 10, 5, 0, 10, 15): "f2",
    struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127): "f4",
    struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023): "f8",
}
"""{properties of a floating-point type: numpy's}: bits, exponent and mantissa of IEEE 754."""
# Types of header messages (IV.A.2).
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT = 1, 2, 3, 6, 7, 8
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 12, 16, 17, 21
_HEAPS = {_LINK_INFO: 8, _ATTRIBUTE_INFO: 2}
"""{type of a message that may point to a fractal heap: bytes of the number that may stand before that address}."""
_ADVICE = "Save the weights again where Keras is, `model.save_weights('new.weights.h5')`, and import that"


@dataclass(frozen=True)
class Dataset:
    """An array in the file.

    Attributes:
        dtype: numpy's name of its type, byte order included; None for a type that is no number.
        shape: its axes.
        address: where its bytes begin.
    """

    dtype: str | None
    shape: tuple[int, ...]
    address: int

    @property
    def size(self) -> int:
        """In bytes; 0 if it has no number type."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize if self.dtype else 0


@dataclass(frozen=True)
class _Attribute:
    """A text attribute: its bytes, or where they are in a global heap."""

    raw: bytes
    in_heap: bool


class Hdf5:
    """The objects of a file.

    Attributes:
        datasets: by path, such as "conv1_conv/kernel:0".
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Reads all names, but no array.

        Args:
            file: open for reading, at any position.
            size: of the file in bytes.

        Raises:
            CheckpointError: it is damaged, or has what Keras does not write.
        """
        self._file, self._size = file, size
        self._left = HDF5_METADATA
        self._values_left = size
        self._seen: set[int] = set()
        self._messages_read = 0
        self._attributes: dict[str, dict[str, _Attribute]] = {}
        self.datasets: dict[str, Dataset] = {}
        self._walk(self._root())

    def text(self, path: str, name: str) -> str | None:
        """A text attribute of a group; None if there is none. The root's path is empty.

        Raises:
            CheckpointError: it is not UTF-8, or lies outside the file.
        """
        attribute = self._attributes.get(path, {}).get(name)
        if attribute is None:
            return None
        raw = self._from_heap(attribute.raw) if attribute.in_heap else attribute.raw
        return _utf8(raw.partition(b"\0")[0])

    def values(self, path: str) -> np.ndarray:
        """The array of a dataset of numbers. All arrays together are at most as large as the file.

        Raises:
            CheckpointError: its bytes lie outside the file, or overlap others.
        """
        dataset = self.datasets[path]
        self._values_left -= dataset.size
        if self._values_left < 0:
            raise CheckpointError("its arrays are larger than the file: they overlap")
        self._require_inside(dataset.address, dataset.size)
        self._file.seek(dataset.address)
        values = np.frombuffer(self._file.read(dataset.size), dataset.dtype)
        return values.reshape(dataset.shape)

    def _require_inside(self, address: int, count: int) -> None:
        if address + count > self._size:
            raise CheckpointError(
                f"it is an HDF5 file that is cut off or damaged: {count:,} bytes at {address:,} are beyond its {self._size:,}"
            )

    def _at(self, address: int, count: int) -> bytes:
        """Bytes of the file that describe it."""
        self._require_inside(address, count)
        self._left -= count
        if self._left < 0:
            raise CheckpointError(f"its names and attributes have more than the limit of {HDF5_METADATA:,} bytes")
        self._file.seek(address)
        return self._file.read(count)

    def _block(self, address: int, signature: bytes, count: int) -> bytes:
        """The beginning of a structure that starts with a signature, each of which is read once."""
        if address in self._seen:
            raise CheckpointError(f"it is damaged: the {signature.decode()} at {address:,} is used twice")
        self._seen.add(address)
        raw = self._at(address, count)
        if not raw.startswith(signature):
            raise CheckpointError(f"it is damaged: there is no {signature.decode()} at {address:,}")
        return raw

    def _root(self) -> int:
        """The address of the root group's header (II)."""
        start = self._at(0, 96)
        version = start[8]
        widths, at = (start[13:15], 64 + 4 * version) if version < 2 else (start[9:11], 36)
        if version > 3 or widths != b"\x08\x08":
            raise CheckpointError(
                f"it is an HDF5 file with superblock version {version} and addresses of {widths[0]} bytes. {_ADVICE}"
            )
        return _number(start, at)

    def _walk(self, root: int) -> None:
        waiting = [("", root)]
        while waiting:
            path, address = waiting.pop()
            if path in self.datasets or path in self._attributes:
                raise CheckpointError(f"it is damaged: {path[:80]!r} is twice in it")
            require_at_most(DEPTH, path.count("/"), "nested groups", "it has", CheckpointError)
            messages = list(self._messages(address))
            kinds = {kind for kind, _ in messages}
            if _LAYOUT in kinds:
                self.datasets[path] = self._dataset(messages)
                continue
            _refuse_heaps(messages)
            self._attributes[path] = dict(
                filter(None, (_attribute(raw) for kind, raw in messages if kind == _ATTRIBUTE))
            )
            for kind, raw in messages:
                for name, child in self._links(kind, raw):
                    waiting.append((_inside(path, name), child))
                    # What waits counts: many names may be of one object.
                    require_at_most(HDF5_OBJECTS, len(self._seen) + len(waiting), "objects", "it has", CheckpointError)

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """(type, content) of an object's header messages (IV.A.1)."""
        if address in self._seen:
            raise CheckpointError(f"it is damaged: the object at {address:,} has two names")
        self._seen.add(address)
        start = self._at(address, min(32, max(0, self._size - address)))
        second = start.startswith(b"OHDR\2")
        if second:
            flags = start[5]
            at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            start = self._at(address, at + width)
            blocks = [(address + at + width, int.from_bytes(start[at:], "little"))]
            order = 2 if flags & 4 else 0
        elif start[:1] == b"\1" and len(start) >= 16:
            blocks, order = [(address + 16, int.from_bytes(start[8:12], "little"))], 0
        else:
            raise CheckpointError(f"it is damaged: there is no object at {address:,}")
        for where, length in blocks:
            raw, at = self._at(where, length), 0
            while at + 4 <= length if second else at + 8 <= length:
                if second:
                    kind, size, flags = struct.unpack_from("<BHB", raw, at)
                    at += 4 + order
                else:
                    kind, size, flags = struct.unpack_from("<HHB", raw, at)
                    at += 8
                content, at = raw[at : at + size], at + size
                self._messages_read += 1
                require_at_most(HDF5_MESSAGES, self._messages_read, "header messages", "it has", CheckpointError)
                if kind == _CONTINUATION:
                    blocks.append(self._continuation(content, second))
                elif flags & 2 and kind in (_DATASPACE, _DATATYPE, _LAYOUT):
                    raise CheckpointError(f"it has types that several objects share, as Keras writes none. {_ADVICE}")
                else:
                    yield kind, content

    def _continuation(self, content: bytes, second: bool) -> tuple[int, int]:
        """Where an object's header goes on: (address, bytes)."""
        where, length = _number(content, 0), _number(content, 8)
        if not second:
            if where in self._seen:
                raise CheckpointError(f"it is damaged: the header at {where:,} is used twice")
            self._seen.add(where)
            return where, length
        self._block(where, b"OCHK", 4)
        return where + 4, max(0, length - 8)

    def _links(self, kind: int, raw: bytes) -> Iterator[tuple[str, int]]:
        """(name, address) of a group's members, from one of its messages."""
        if kind == _SYMBOL_TABLE:
            yield from self._symbols(_number(raw, 0), _number(raw, 8))
        elif kind == _LINK:
            yield _link(raw)

    def _symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Members of a group whose names are in a local heap (III.A, III.B and III.D)."""
        head = self._block(heap, b"HEAP", 32)
        names = self._at(_number(head, 24), _number(head, 8))
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            head = self._block(node, b"TREE", 24)
            level, used = head[5], int.from_bytes(head[6:8], "little")
            raw = self._at(node + 24, 16 * used + 8)
            children = [_number(raw, 8 + 16 * index) for index in range(used)]
            if level:
                waiting += children
                continue
            for child in children:
                count = int.from_bytes(self._block(child, b"SNOD", 8)[6:8], "little")
                entries = self._at(child + 8, 40 * count)
                for at in range(0, 40 * count, 40):
                    if int.from_bytes(entries[at + 16 : at + 20], "little") == 2:
                        raise CheckpointError(f"it has links from one name to another, as Keras writes none. {_ADVICE}")
                    yield _name(names, _number(entries, at)), _number(entries, at + 8)

    def _dataset(self, messages: list[tuple[int, bytes]]) -> Dataset:
        found = dict(messages)
        if _EXTERNAL in found or _DATASPACE not in found or _DATATYPE not in found:
            raise CheckpointError(f"it has an array in another file, or one without type or shape. {_ADVICE}")
        layout, shape = found[_LAYOUT], _shape(found[_DATASPACE])
        if len(layout) < 18 or layout[0] not in (3, 4) or layout[1] != 1:
            raise CheckpointError(
                f"it has an array that is compressed or stored in pieces, as Keras writes none. {_ADVICE}"
            )
        address, stored = _number(layout, 2), _number(layout, 10)
        if address == _NOWHERE:
            address = stored = 0
        dataset = Dataset(_dtype(found[_DATATYPE]), shape, address)
        if stored < dataset.size:
            raise CheckpointError(f"it has an array of {dataset.size:,} bytes of which {stored:,} were written")
        return dataset

    def _from_heap(self, reference: bytes) -> bytes:
        """A text of variable length (III.E): its length, the address of a collection, and its number there."""
        length, address, number = struct.unpack("<IQI", reference[:16])
        head = self._at(address, 16)
        if not head.startswith(b"GCOL"):
            raise CheckpointError(f"it is damaged: there is no GCOL at {address:,}")
        raw, at = self._at(address, _number(head, 8)), 16
        while at + 16 <= len(raw):
            index, size = int.from_bytes(raw[at : at + 2], "little"), _number(raw, at + 8)
            if index == number:
                return raw[at + 16 : at + 16 + min(size, length)]
            at += 16 + -(-size // 8) * 8
        raise CheckpointError(f"it is damaged: the text {number} at {address:,} is missing")


def _number(raw: bytes, at: int) -> int:
    """The address or length of 8 bytes at a position."""
    if at + 8 > len(raw):
        raise CheckpointError("it is damaged: an address is cut off")
    return int.from_bytes(raw[at : at + 8], "little")


def _name(names: bytes, start: int) -> str:
    """The name that begins at a position of a local heap and ends with NUL."""
    end = names.find(b"\0", start, start + NAME + 1)
    if end < 0:
        raise CheckpointError(f"it is damaged: a name has more than the limit of {NAME} bytes, or no end")
    return _utf8(names[start:end])


def _inside(parent: str, name: str) -> str:
    """The path of a group's member."""
    if not name or "/" in name:
        raise CheckpointError(f"it is damaged: {name[:80]!r} is the name of a group or an array")
    path = f"{parent}/{name}" if parent else name
    require_at_most(NAME, len(path), "characters", f"the path {path[:40]!r} … has", CheckpointError)
    return path


def _refuse_heaps(messages: list[tuple[int, bytes]]) -> None:
    """Raises `CheckpointError` if a group's members or attributes are in a fractal heap (IV.A.2.c and IV.A.2.v), as many are."""
    for kind, raw in messages:
        if kind in _HEAPS and _number(raw, 2 + _HEAPS[kind] * (raw[1] & 1)) != _NOWHERE:
            what = "members" if kind == _LINK_INFO else "attributes"
            raise CheckpointError(
                f"it has a group whose {what} are in a form that Keras does not write (fractal heaps). {_ADVICE}"
            )


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"it is damaged: a name or text is not UTF-8 ({error})") from error


def _link(raw: bytes) -> tuple[str, int]:
    """A link message (IV.A.2.g): the name and the address."""
    flags, at = raw[1], 2
    kind = raw[at] if flags & 8 else 0
    at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    length, at = int.from_bytes(raw[at : at + width], "little"), at + width
    if kind:
        raise CheckpointError(f"it has links to other names or files, as Keras writes none. {_ADVICE}")
    return _utf8(raw[at : at + length]), _number(raw, at + length)


def _shape(raw: bytes) -> tuple[int, ...]:
    """The axes of a dataspace message (IV.A.2.b)."""
    version, axes = raw[0], raw[1]
    require_at_most(AXES, axes, "axes", "an array in it has", CheckpointError)
    start = 8 if version == 1 else 4
    return tuple(_number(raw, start + 8 * axis) for axis in range(axes))


def _dtype(raw: bytes) -> str | None:
    """numpy's name of a datatype message (IV.A.2.d); None for what is no number."""
    kind, order, size = raw[0] & 15, ">" if raw[1] & 1 else "<", int.from_bytes(raw[4:8], "little")
    if kind == 1 and not raw[1] & 64:
        found = _FLOATS.get(raw[8:20])
        return order + found if found and np.dtype(found).itemsize == size else None
    if kind == 0 and size in (1, 2, 4, 8):
        return f"{order}{'i' if raw[1] & 8 else 'u'}{size}"
    return None


def _attribute(raw: bytes) -> tuple[str, _Attribute] | None:
    """The name of an attribute (IV.A.2.m) that is one text, and where the text is; None for other attributes."""
    version = raw[0]
    sizes = struct.unpack_from("<HHH", raw, 2)
    at, padded = (9 if version == 3 else 8), version == 1
    parts = []
    for size in sizes:
        parts.append(raw[at : at + size])
        at += -(-size // 8) * 8 if padded else size
    name, kind, space = parts
    if not kind or math.prod(_shape(space)) != 1:
        return None
    if kind[0] & 15 == 3:
        return _utf8(name.rstrip(b"\0")), _Attribute(raw[at : at + int.from_bytes(kind[4:8], "little")], in_heap=False)
    if kind[0] & 15 == 9 and kind[1] & 15 == 1:
        return _utf8(name.rstrip(b"\0")), _Attribute(raw[at : at + 16], in_heap=True)
    return None
