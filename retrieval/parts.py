"""The finished part of a long embedding, kept beside its output so that an interrupted command continues there."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from retrieval.embeddings import Embeddings
from zoo.errors import DataError
from zoo.files import write_json
from zoo.text import read_json

_KEY = "key.json"


class Parts:
    """Descriptors in the order of the images, in a hidden folder `.<name>.parts` beside the output.

    A part is an embeddings file, so it is written atomically and checked when it is read. The folder is emptied if it was made
    from something else: another model, other images, or batches of another size, which could change the last digits.

    Args:
        out: the output that the parts belong to.
        made_from: JSON values that decide the descriptors.
    """

    def __init__(self, out: Path, made_from: dict) -> None:
        self.folder = out.with_name(f".{out.name}.parts")
        key = {"sha256": hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()}
        if not self._is(key):
            shutil.rmtree(self.folder, ignore_errors=True)
            write_json(self.folder / _KEY, key)

    def read(self) -> list[Embeddings]:
        """The parts that are complete, from the first one on; a damaged one and those behind it count as missing."""
        found: list[Embeddings] = []
        while (path := self._path(len(found))).exists():
            try:
                found.append(Embeddings.load(path))
            except DataError:
                break
        return found

    def add(self, number: int, ids: tuple[str, ...], rows: np.ndarray) -> None:
        """Keeps part `number`."""
        Embeddings(ids, rows, {}).save(self._path(number))

    def remove(self) -> None:
        """Removes the folder: the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _is(self, key: dict) -> bool:
        try:
            return read_json(self.folder / _KEY) == key
        except DataError:
            return False
