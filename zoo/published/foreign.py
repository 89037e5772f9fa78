"""What files that are no state dict are, by their bytes, and how to get one from them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

_TORCH = "torch.save(model.state_dict(), 'weights.pth')"
_PADDLE = "paddle.save(model.state_dict(), 'weights.pdparams')"
_STATE_DICT = f"Save a state dict where the model is, `{_TORCH}`, and import that."
_PADDLE_STATE_DICT = f"Save a state dict where the model is, `{_PADDLE}`, and import that."
_OF_ANOTHER = "Its weights are not read; look for those of PyTorch or Paddle."
_TAR = "Unpack it, `tar -xf {file}`, and import the file of weights that it holds."
_TENSORFLOW_TABLE = bytes.fromhex("57fb808b247547db")
_PRINTABLE = frozenset(b"\t\n\r") | frozenset(range(32, 127))


class _Kind(NamedTuple):
    """A kind of file: how it starts, what it is, what to do; `at` is where these bytes stand."""

    start: bytes
    name: str
    advice: str
    at: int = 0


_TEXTS = (
    _Kind(b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: `git lfs pull`."),
    _Kind(b"<", "a web page", "Download the file itself: the link led to a page that shows or refuses it."),
    _Kind(b"model_checkpoint_path:", "the list of a TensorFlow checkpoint's files", _OF_ANOTHER),
    _Kind(b"MATLAB 5.0 MAT-file", "a file of MATLAB, as MatConvNet writes", _OF_ANOTHER),
)
"""Kinds that are recognised behind white space and a byte order mark."""
_BINARIES = (
    _Kind(b"7z\xbc\xaf", "a 7z archive", "Unpack it, `7z x {file}`, and import the file of weights that it holds."),
    _Kind(b"Rar!", "a RAR archive", "Unpack it, `unrar x {file}`, and import the file of weights that it holds."),
    _Kind(b"ustar", "a tar archive, as PyTorch wrote before version 0.2, or one to unpack", _TAR, at=257),
    _Kind(b"\x93NUMPY", "a numpy array (.npy)", "Expected a state dict of named tensors."),
    _Kind(b"GGUF", "a GGUF file", _OF_ANOTHER),
    _Kind(b"TFL3", "a model of TensorFlow Lite", _OF_ANOTHER, at=4),
    _Kind(b"ET1", "a program of ExecuTorch (.pte)", _STATE_DICT, at=4),
    _Kind(b"\x12\x01" + bytes(6), "MXNet's parameters (.params)", _OF_ANOTHER),
    _Kind(bytes(16), "a file of Paddle's inference format (.pdiparams), which has no names", _PADDLE_STATE_DICT),
    _Kind(b"\x08\x01\x12", "a SavedModel of TensorFlow (saved_model.pb)", _OF_ANOTHER),
    _Kind(b"\x08", "a protobuf, such as an ONNX file", _STATE_DICT),
)
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
}
"""{how a compressed file starts: (its name, the command that writes its content to stdout)}."""


def foreign(path: Path, start: bytes) -> str | None:
    """What a file is that is no state dict, and what to do; None if it is of no kind that is known.

    Args:
        path: the file.
        start: its first 512 bytes, or all of them.
    """
    made = _compressed(path, start) or _known(path, start) or _protobuf(start) or _tensorflow(path) or _text(start)
    return made and made.replace("{file}", shlex.quote(str(path)))


def _known(path: Path, start: bytes) -> str | None:
    """A kind of the tables, JSON or MessagePack."""
    bare = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for kind in _TEXTS:
        if bare.startswith(kind.start):
            return f"it is {kind.name}. {kind.advice}"
    if re.match(rb'\{\s*["}]', bare):
        return _json(path)
    for kind in _BINARIES:
        if start[kind.at :].startswith(kind.start):
            return f"it is {kind.name}. {kind.advice}"
    # A map of few or many entries whose first key is text; a pickle's second byte is its protocol.
    if re.match(rb"([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9]", start, re.DOTALL):
        return f"it is a MessagePack file, as Flax writes. {_OF_ANOTHER}"
    return None


def _compressed(path: Path, start: bytes) -> str | None:
    for magic, (name, command) in _COMPRESSED.items():
        if start.startswith(magic):
            if re.search(r"\.(tar\.|t[gbx]z)", path.name):
                return f"it is a {name} archive of a tar. {_TAR}"
            packed = path.suffix in (".gz", ".bz2", ".xz", ".zst", ".lz4")
            inner = path.with_suffix("") if packed else path.with_name(f"unpacked-{path.name}")
            return f"it is a {name} archive. Unpack it, `{command} {{file}} > {shlex.quote(str(inner))}`, and import that file."
    return None


def _json(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(1 << 20)
    if b'"weight_map"' in start:
        shards = sorted({shard.decode() for shard in re.findall(rb'"([\w.-]{1,100}\.(?:safetensors|bin))"', start)})
        if len(shards) == 1:
            return f"it is JSON, an index of weights, which are all in {shards[0]}. Import that."
        return (
            f"it is JSON, an index of weights in several files, {', '.join(shards[:3]) or 'none of them known'}. Where the model "
            "is, write one file, `model.save_pretrained('whole', max_shard_size='100GB')`, and import that."
        )
    if b'"architectures"' in start or b'"architecture"' in start or b'"model_type"' in start:
        return (
            "it is JSON, a model's configuration without weights. Import the weights that stand beside it, such as "
            "model.safetensors or pytorch_model.bin."
        )
    return (
        "it is JSON, such as an index of shards or Paddle's inference format. Import the file of weights that an index "
        f"names. A program of Paddle has none. {_PADDLE_STATE_DICT}"
    )


def _protobuf(start: bytes) -> str | None:
    """A message whose first field is a message or a text: its own first bytes tell which."""
    found = re.match(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f](.{2})", start, re.DOTALL)
    if found is None or _printable(start):
        return None
    inner = found[1]
    if inner == b"\x08\x00":
        return f"it is a program of Paddle's inference format (.pdmodel). {_PADDLE_STATE_DICT}"
    if inner[:1] == b"\x0a":
        return f"it is a protobuf, such as TensorFlow's frozen graph. {_OF_ANOTHER}"
    if inner.isalnum() and b"\x00" not in start[:2]:
        return f"it is a protobuf, such as a model of Caffe (.caffemodel). {_OF_ANOTHER}"
    return f"it is a protobuf, such as Paddle's inference format (.pdmodel). {_STATE_DICT}"


def _tensorflow(path: Path) -> str | None:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(_TENSORFLOW_TABLE)))
        table = file.read() == _TENSORFLOW_TABLE
    if table:
        return f"it is a checkpoint of TensorFlow (.index, .ckpt). {_OF_ANOTHER}"
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return f"it is a part of a TensorFlow checkpoint (.data-00000-of-00001), which has no names. {_OF_ANOTHER}"
    return None


def _text(start: bytes) -> str | None:
    if not _printable(start):
        return None
    return (
        f"it is text, which starts with {start[:80].decode('utf-8-sig').strip()!r}, and so does no file of weights. Download the file itself: a "
        "server may have answered with a message."
    )


def _printable(start: bytes) -> bool:
    return set(start.removeprefix(b"\xef\xbb\xbf")) <= _PRINTABLE


def foreign_zip(names: list[str]) -> str | None:
    """What a zip is that is no state dict, and what to do; None if it is as torch.save writes it.

    Args:
        names: of its entries.
    """
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last or any("/code/" in name for name in names):
        return (
            "it is a TorchScript archive, a program. Load it where you trust it, and save its weights: "
            "`torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')`"
        )
    if "archive_format" in last or last & {"serialized_exported_program.json", "serialized_state_dict.pt"}:
        return (
            "it is an archive of torch.export (.pt2), a program. Load it where you trust it, and save its weights: "
            "`torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth')`"
        )
    if any(name.endswith(".npy") for name in names):
        return (
            "it is a file of numpy (.npz). If its arrays are a state dict of PyTorch, save them as one: "
            "`torch.save({name: torch.from_numpy(value) for name, value in numpy.load(FILE).items()}, 'weights.pth')`"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return None
    shown = ", ".join(names[:3])[:200] or "nothing"
    return (
        f"it is a zip, but not one of torch.save, which has data.pkl in a folder; it holds {shown}. If one of its files has "
        "weights, unpack it, `unzip {file}`, and import that"
    )


def foreign_folder(path: Path) -> str:
    """What to do with a folder instead of a file."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    if ".metadata" in names:
        return (
            "is a distributed checkpoint of PyTorch. Write one file, `python -m torch.distributed.checkpoint.format_utils "
            f"dcp_to_torch {shlex.quote(str(path))} weights.pth`, and import that"
        )
    if "saved_model.pb" in names:
        return f"is a SavedModel of TensorFlow. {_OF_ANOTHER.rstrip('.')}"
    weights = [name for name in names if name.endswith((".pth", ".pt", ".bin", ".safetensors", ".pdparams", ".ckpt"))]
    found = f"; it holds {', '.join(weights[:5])}" if weights else ""
    return f"is a folder; expected a .pth, .pdparams or .safetensors file{found}"
