"""The finished part of a long embedding, kept beside its output so that an interrupted command continues there."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from retrieval.embeddings import Embeddings
from zoo.command import log
from zoo.disk import require_room
from zoo.errors import DataError, OutputError
from zoo.files import write_json
from zoo.text import read_json

PART_SECONDS, PART_SHARE = 1, 0.01
"""What is new is written to disk after a second, or after a hundredth of the time so far if that is longer: SIGKILL loses no
more, and twelve hours make about 700 parts. Ctrl-C and errors lose one batch at most."""
_KEY = "key.json"


class Parts:
    """Descriptors in the order of the images, in a hidden folder `.<name>.parts` beside the output.

    A part is an embeddings file, so it is written atomically and checked when it is read. The folder is emptied if it was made
    from something else: another model, other images, or batches of another size, which could change the last digits.

    As a context manager it writes what is not yet on disk if the body raises, and removes the folder if it does not.

    Args:
        out: the output that the parts belong to.
        ids: the images, in their order.
        made_from: JSON values that decide the descriptors, other than the ids.

    Attributes:
        done: number of images that have a descriptor.

    Raises:
        OutputError: `out` is a folder, or its folder cannot be written.
    """

    def __init__(self, out: Path, ids: Sequence[str], made_from: dict) -> None:
        if out.is_dir():
            raise OutputError(f"{out} is a folder; expected a file to write. Choose another --out.")
        self.done = 0
        self._out, self._ids, self._folder = out, tuple(ids), out.with_name(f".{out.name}.parts")
        self._rows: np.ndarray | None = None
        self._kept, self._parts = 0, 0
        key = json.dumps([made_from, self._ids], sort_keys=True).encode()
        self._key = {"sha256": hashlib.sha256(key).hexdigest()}
        self._open()
        self._start = self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with suppress(OutputError, DataError):  # the body's error is the one to report
            self._keep()
        if self._kept:
            log(f"{self._kept:,} of {len(self._ids):,} images are done: the same command continues there")
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def rows(self) -> np.ndarray:
        """Descriptors float32 [done, D]."""
        assert self._rows is not None, "nothing was added"
        return self._rows[: self.done]

    def add(self, rows: np.ndarray) -> None:
        """Appends the descriptors of the next images, float32 [N, D].

        Raises:
            DataError: one of them is not finite or all zeros, or they have another length than those before.
            OutputError: the disk has no room for the rest.
        """
        self._append(rows)
        now = time.monotonic()
        if now - self._since >= max(PART_SECONDS, PART_SHARE * (now - self._start)):
            self._keep()

    def _append(self, rows: np.ndarray) -> None:
        end = self.done + len(rows)
        Embeddings(self._ids[self.done : end], rows, {})
        if self._rows is None:
            self._rows = np.empty((len(self._ids), rows.shape[1]), np.float32)
            self._require_room()
        if rows.shape[1] != self._rows.shape[1]:
            raise DataError(f"a batch has {rows.shape[1]}-D descriptors and those before {self._rows.shape[1]}-D")
        self._rows[self.done : end] = rows
        self.done = end

    def _open(self) -> None:
        """Reads the parts that are complete and made from the same, or begins anew."""
        if self._is_ours():
            self._read()
            return
        if self._folder.exists():
            log(f"{self._folder} holds unfinished work of another model, data set or batch size: beginning anew")
            shutil.rmtree(self._folder, ignore_errors=True)
        with self._about_the_output():
            write_json(self._folder / _KEY, self._key)

    def _read(self) -> None:
        """Takes the parts from the first one on; a damaged one and those behind it count as missing."""
        while (path := self._path(self._parts)).exists():
            try:
                part = Embeddings.load(path)
                # Each part has the key: another command may have written to the same output at the same time.
                if part.source != self._key or part.ids != self._ids[self.done : self.done + len(part.ids)]:
                    return
                self._append(part.descriptors)
            except DataError:
                return
            self._parts, self._kept = self._parts + 1, self.done

    def _keep(self) -> None:
        """Writes what is not yet on disk."""
        if self.done > self._kept:
            with self._about_the_output():
                new = slice(self._kept, self.done)
                Embeddings(self._ids[new], self.rows[new], self._key).save(self._path(self._parts))
            self._parts, self._kept = self._parts + 1, self.done
        self._since = time.monotonic()

    def _require_room(self) -> None:
        """The parts and the output exist together for a moment."""
        assert self._rows is not None
        require_room(self._out, 2 * self._rows.nbytes - self._size(), largest=self._rows.nbytes)

    def _size(self) -> int:
        """Bytes of the parts on disk."""
        return sum(path.stat().st_size for path in self._folder.glob("*"))

    @contextmanager
    def _about_the_output(self) -> Iterator[None]:
        """Errors name the file that the user asked for."""
        try:
            yield
        except OutputError as error:
            text = str(error)
            for path in (self._path(self._parts), self._folder / _KEY, self._folder):
                text = text.replace(str(path), str(self._out))
            raise OutputError(text) from error

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"

    def _is_ours(self) -> bool:
        try:
            return read_json(self._folder / _KEY) == self._key
        except DataError:
            return False
