"""What kind of file it is, by its first bytes; its suffix does not matter."""

import io
import re
import shlex
import zipfile
from pathlib import Path

from zoo.errors import CheckpointError
from zoo.published import hdf5, keras_files
from zoo.published.foreign import foreign, foreign_zip

SAFETENSORS, TORCH_ZIP, PICKLE, HDF5, KERAS_ZIP = "safetensors", "torch zip", "pickle", "hdf5", "keras zip"


def kind_of(path: Path) -> str:
    """`SAFETENSORS`, `TORCH_ZIP`, `PICKLE`, `HDF5` or `KERAS_ZIP`.

    Raises:
        CheckpointError: another kind of file, which is named (`zoo.published.foreign`).
    """
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError("it is empty. Download it again")
    if start[8:9] == b"{" and start[4:8] == bytes(4):  # the length of a header is below 100 MB
        return SAFETENSORS
    if len(start) == 512 and not any(start):
        raise CheckpointError(
            "it starts with nothing but zeros, as a file whose download did not finish. Download it again"
        )
    if start.startswith(hdf5.SIGNATURE):
        return HDF5
    if start.startswith(b"PK"):
        return _zip_kind(path)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if re.match(rb"[(}\]]|c[\w.]+\n\w", start) and _last_byte(path) == b".":  # the protocols 0 and 1
        return PICKLE
    if said := foreign(path, start):
        raise CheckpointError(said)
    raise CheckpointError(
        f"it starts with {start[:8]!r}, and so does no file of weights; expected a state dict that torch.save, paddle.save, "
        "safetensors or Keras wrote"
    )


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-1, io.SEEK_END)
        return file.read(1)


def _zip_kind(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        raise CheckpointError("it is cut off: it begins as a zip, and the directory at a zip's end is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"it begins as a zip, but is damaged: {error}. Download it again") from error
    if keras_files.WEIGHTS in names:
        return KERAS_ZIP
    said = foreign_zip(names)
    if said is None:
        return TORCH_ZIP
    raise CheckpointError(said.replace("{file}", shlex.quote(str(path))))
