"""What kind of file it is, by its first bytes; its suffix does not matter."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

from zoo.errors import CheckpointError

SAFETENSORS, TORCH_ZIP, PICKLE = "safetensors", "torch zip", "pickle"
_STATE_DICT = "Save a state dict instead, `torch.save(model.state_dict(), 'weights.pth')`, and import that."
_PADDLE = "Save a state dict instead, `paddle.save(model.state_dict(), 'weights.pdparams')`, and import that."


class _Other(NamedTuple):
    """A file that is not weights: how it starts, what it is, what to do."""

    start: bytes
    name: str
    advice: str


_OTHERS = (
    _Other(b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself with `git lfs pull`."),
    _Other(b"<", "a web page", "Download the file itself: the link led to a page that shows or refuses it."),
    _Other(b"\x1f\x8b", "a gzip archive", "Unpack it, and import the file of weights that it holds."),
    _Other(b"BZh", "a bzip2 archive", "Unpack it, and import the file of weights that it holds."),
    _Other(b"\xfd7zXZ", "an xz archive", "Unpack it, and import the file of weights that it holds."),
    _Other(b"7z\xbc\xaf", "a 7z archive", "Unpack it, and import the file of weights that it holds."),
    _Other(b"Rar!", "a RAR archive", "Unpack it, and import the file of weights that it holds."),
    _Other(
        b"\x89HDF",
        "an HDF5 file, as Keras writes",
        "Weights of Keras are not read; look for those of PyTorch or Paddle.",
    ),
    _Other(b"\x93NUMPY", "a numpy array", "Expected a state dict of named tensors."),
    _Other(b"GGUF", "a GGUF file", "Look for the original weights of PyTorch or Paddle."),
    _Other(b"\x00\x00\x00\x00", "a file of Paddle's inference format (.pdiparams), which has no names", _PADDLE),
    _Other(
        b"{",
        "JSON, such as an index of shards or Paddle's inference format",
        "Import the file of weights that an index names. A program of Paddle has none: save a state dict, "
        "`paddle.save(model.state_dict(), 'weights.pdparams')`, and import that.",
    ),
    _Other(b"\x08", "a protobuf, such as an ONNX file or Paddle's inference format (.pdmodel)", _STATE_DICT),
    _Other(b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it, and import the file of weights that it holds."),
    _Other(b"\x0a", "a protobuf, such as a SavedModel or Paddle's inference format (.pdmodel)", _STATE_DICT),
)


_TEXT = frozenset(b"\t\n\r") | frozenset(range(32, 127))


def kind_of(path: Path) -> str:
    """`SAFETENSORS`, `TORCH_ZIP` or `PICKLE`.

    Raises:
        CheckpointError: another kind of file, which is named; or a TorchScript archive.
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
    if start.startswith(b"PK"):
        return _zip_kind(path)
    if start[257:262] == b"ustar":
        raise CheckpointError(
            f"it is a tar archive, as PyTorch wrote before version 0.2, or one to unpack. {_STATE_DICT}"
        )
    text = all(byte in _TEXT for byte in start)
    for other in _OTHERS if not text else [other for other in _OTHERS if other.start[0] in _TEXT - {0x0A}]:
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(other.start) or start.startswith(other.start):
            raise CheckpointError(f"it is {other.name}. {other.advice}")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if start[:1] in (b"(", b"}", b"]", b"c") and _last_byte(path) == b".":  # the protocols 0 and 1
        return PICKLE
    raise CheckpointError(
        f"it starts with {start[:8]!r}, and so does no file of weights; expected a state dict that torch.save, paddle.save or "
        "safetensors wrote"
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
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last or any("/code/" in name for name in names):
        raise CheckpointError(
            "it is a TorchScript archive, a program. Load it where you trust it, and save its weights: "
            "`torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')`"
        )
    if "data.pkl" in last:
        return TORCH_ZIP
    what = "a file of numpy (.npz)" if any(name.endswith(".npy") for name in names) else "a zip"
    raise CheckpointError(
        f"it is {what} without data.pkl, which torch.save writes; it holds {', '.join(names[:3])[:200]}"
    )
