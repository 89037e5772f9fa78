"""What kind of file it is, by its first bytes; its suffix does not matter."""

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
    _Other(b"{", "JSON, such as an index of shards or Paddle's inference format", _PADDLE),
    _Other(b"\x08", "a protobuf, such as an ONNX file or Paddle's inference format (.pdmodel)", _STATE_DICT),
    _Other(b"\x0a", "a protobuf, such as a SavedModel or Paddle's inference format (.pdmodel)", _STATE_DICT),
)


def kind_of(path: Path) -> str:
    """`SAFETENSORS`, `TORCH_ZIP` or `PICKLE`.

    Raises:
        CheckpointError: another kind of file, which is named; or a TorchScript archive.
    """
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError("it is empty. Download it again")
    if start[8:9] == b"{":
        return SAFETENSORS
    if start.startswith(b"PK"):
        return _zip_kind(path)
    if start[257:262] == b"ustar":
        raise CheckpointError(
            f"it is a tar archive, as PyTorch wrote before version 0.2, or one to unpack. {_STATE_DICT}"
        )
    for other in _OTHERS:
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(other.start) or start.startswith(other.start):
            raise CheckpointError(f"it is {other.name}. {other.advice}")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    raise CheckpointError(
        f"it starts with {start[:8]!r}, and so does no file of weights; expected a state dict that torch.save, paddle.save or "
        "safetensors wrote"
    )


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"it begins as a zip, but is cut off or damaged: {error}. Download it again") from error
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
