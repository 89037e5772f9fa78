"""The project's reader and writer of safetensors: parts of a file, the caller's own errors, true reasons of failure."""

import errno
import json
import struct

import numpy as np
import pytest
from safetensors import SafetensorError

from zoo.errors import CheckpointError, DataError, OutputError
from zoo.limits import TENSORS as MOST
from zoo.tensors import Layout, read_header, read_layouts, read_rows, read_tensors, write_tensors

TENSORS = {"large": np.zeros((1000, 1000), np.float32), "small": np.arange(6).reshape(2, 3).T}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"format": "mine"})
    return tmp_path / "a.safetensors"


def test_everything_is_read(path):
    tensors, header = read_tensors(path)
    assert header == {"format": "mine"}
    assert tensors.keys() == TENSORS.keys()
    np.testing.assert_array_equal(tensors["small"], TENSORS["small"])


def test_one_tensor_is_read(path):
    tensors, header = read_tensors(path, ["small"])
    assert list(tensors) == ["small"]
    assert header == {"format": "mine"}
    with pytest.raises(CheckpointError, match="has no tensor 'medium'; it has large, small"):
        read_tensors(path, ["medium"])


def test_layouts_are_read_without_the_tensors(path):
    layouts, header = read_layouts(path)
    assert layouts == {"large": Layout("F32", (1000, 1000)), "small": Layout("I64", (3, 2))}
    assert header == {"format": "mine"}


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(1, 3), slice(2, 3)])
def test_some_rows_are_read(path, rows):
    found = read_rows(path, {"small": rows})
    assert list(found) == ["small"]
    np.testing.assert_array_equal(found["small"], TENSORS["small"][rows])
    with pytest.raises(CheckpointError, match="not a readable safetensors file: .* Again."):
        read_rows(path, {"small": slice(2, 9)}, advice="Again.")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_rows(path, {"medium": rows})


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,)])
def test_a_shape_comes_back(tmp_path, shape):
    """`np.ascontiguousarray` would give an array without axes one."""
    write_tensors(tmp_path / "a.safetensors", {"a": np.ones(shape, np.float32)})
    assert read_tensors(tmp_path / "a.safetensors")[0]["a"].shape == shape
    assert read_rows(tmp_path / "a.safetensors", {"a": slice(None)})["a"].shape == shape


def test_more_tensors_than_a_network_has_are_refused(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {str(n): np.empty(0, np.uint8) for n in range(MOST + 1)})
    with pytest.raises(CheckpointError, match=f"{MOST + 1:,} tensors, more than the limit"):
        read_layouts(tmp_path / "a.safetensors")


def test_the_header_is_read_although_a_tensor_cannot_be(path):
    """numpy has no 8-bit float, so reading this tensor fails."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["large"].update(dtype="F8_E4M3", shape=[4, 1000, 1000])
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])
    assert read_header(path) == {"format": "mine"}
    assert list(read_tensors(path, ["small"])[0]) == ["small"]
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("read", [read_tensors, read_header])
def test_a_caller_chooses_the_error_and_its_advice(tmp_path, read):
    (tmp_path / "a.safetensors").write_text("something else")
    with pytest.raises(DataError, match=r"a\.safetensors is not a readable safetensors file: .* Embed again\.$"):
        read(tmp_path / "a.safetensors", error=DataError, advice="Embed again.")
    with pytest.raises(DataError, match=r"does not exist; expected a safetensors file\. Embed again\.$"):
        read(tmp_path / "none.safetensors", error=DataError, advice="Embed again.")


@pytest.mark.parametrize(
    ("message", "expected", "match"),
    [
        (
            "I/O error: No space left on device (os error 28)",
            OutputError,
            "No space left on device.*Free some disk space",
        ),
        ("I/O error: Read-only file system (os error 30)", OutputError, "file system is read-only"),
        ("Error while serializing: I/O error: the device is gone", OSError, "Input/output error"),
        ("Error while serializing: header too large", SafetensorError, "header too large"),
    ],
)
def test_only_an_error_of_the_disk_is_reported_as_one(path, monkeypatch, message, expected, match):
    def fail(*_: object) -> None:
        raise SafetensorError(message)

    before = path.read_bytes()
    monkeypatch.setattr("zoo.tensors.save_file", fail)
    with pytest.raises(expected, match=match):
        write_tensors(path, TENSORS)
    assert path.read_bytes() == before


def test_safetensors_still_words_a_system_error_like_this(tmp_path):
    """`write_tensors` reads the error number from safetensors' message."""
    from safetensors.numpy import save_file

    with pytest.raises(SafetensorError, match=rf"\(os error {errno.ENOENT}\)"):
        save_file(TENSORS, tmp_path / "no folder" / "a.safetensors")


def test_a_header_beyond_the_formats_limit_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(SafetensorError, match="header too large"):
        write_tensors(tmp_path / "a.safetensors", {}, {"ids": "x" * 101_000_000})
    assert list(tmp_path.iterdir()) == []
