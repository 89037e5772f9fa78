"""Checkpoints: a written file is read back, and every other file is refused."""

import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoint import FORMAT, Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from zoo.errors import CheckpointError, OutputError
from zoo.specs import told_apart
from zoo.variants import get_spec
from zoo.weights import initial_weights

SPEC = get_spec("resnet10_narrow")


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(SPEC, initial_weights(SPEC, [1] * 5, seed=1), 5, {"framework": "torch"})


@pytest.fixture
def path(tmp_path, checkpoint) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    return tmp_path / "model.safetensors"


def _rewrite_header(path: Path, change) -> None:
    """Replaces the JSON header of a safetensors file; the data is unchanged."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])


def test_round_trip(path, checkpoint):
    read = load_checkpoint(path)
    assert (read.spec, read.classes, read.provenance) == (SPEC, 5, {"framework": "torch"})
    assert read.weights.keys() == checkpoint.weights.keys()
    assert all(np.array_equal(read.weights[name], value) for name, value in checkpoint.weights.items())
    assert fingerprint(read) == fingerprint(checkpoint)


_FIRST = {
    "backbone": "depths block planes stem stem_width stem_channels shortcut first_shortcut cardinality base_width radix reduction "
    "attention_bias avd_first scale hierarchy_from_first pool_counts_padding squeeze_excitation ibn_a",
    "head": "pool gem_p gem_p_learned neck neck_bias embedding_size l2",
    "preprocess": "size mean std channels resize",
    "loss": "kind sub_centers",
}
"""The fields of specs when the format was new. This list does not change: fields that come later have the metadata `zoo.specs.ADDED`."""


def test_a_fingerprint_stays_when_specs_gain_fields():
    """The sum was computed when the format was new."""
    alone = Checkpoint(SPEC, initial_weights(SPEC, (), 0), 0, {})
    assert fingerprint(alone) == "4bf6a13e2a771b4004a8054ac256ef988d6e5b7e2e75ed6c2244a7519bc5f13c"
    always = {part: set(fields) for part, fields in told_apart(SPEC).items() if part != "name"}
    assert always == {part: set(fields.split()) for part, fields in _FIRST.items()}, (
        "mark new fields as zoo.specs.ADDED"
    )


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("head", {"l2_before_neck": True}),
        ("head", {"whitening_size": 8}),
        ("backbone", {"last_stride": 1}),
        ("backbone", {"stem_pool": "ceil"}),
        ("backbone", {"radix": 2, "block": "split_attention"}),
        ("preprocess", {"channels": "bgr"}),
    ],
)
def test_every_option_changes_a_fingerprint(part, changes):
    plain = Checkpoint(SPEC, {}, 0, {})
    changed = replace(SPEC, **{part: replace(getattr(SPEC, part), **changes)})
    assert fingerprint(replace(plain, spec=changed)) != fingerprint(plain)


def test_fingerprint_sees_one_bit(checkpoint):
    changed = {name: value.copy() for name, value in checkpoint.weights.items()}
    changed["neck.linear.weight"][3, 4] = np.nextafter(changed["neck.linear.weight"][3, 4], np.float32(9))
    assert fingerprint(replace(checkpoint, weights=changed)) != fingerprint(checkpoint)


def test_checkpoint_of_another_model(path):
    other = json.dumps(get_spec("resnest14_narrow").to_dict())
    _rewrite_header(path, lambda header: header["__metadata__"].update(spec=other))
    with pytest.raises(
        CheckpointError,
        match=r"does not contain the tensors of resnest14_narrow(.|\n)*expected \[16, 32, 1, 1\], found \[32, 32, 3, 3\](.|\n)*more",
    ):
        load_checkpoint(path)


def test_nan_is_refused_when_written_and_when_read(path, checkpoint):
    checkpoint.weights["backbone.bn1.bias"][3] = np.nan
    with pytest.raises(CheckpointError, match=r"backbone\.bn1\.bias contains 1 values that are not finite"):
        save_checkpoint(path.with_name("nan.safetensors"), checkpoint)
    assert not path.with_name("nan.safetensors").exists()
    nan = struct.pack("<f", float("nan"))
    path.write_bytes(path.read_bytes()[:-4] + nan)
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(path)


def test_a_spec_that_could_not_be_read_again_is_not_written(path, checkpoint):
    """A head may come from the tensors of a file."""
    wide = replace(SPEC, head=replace(SPEC.head, embedding_size=65537))
    with pytest.raises(CheckpointError, match=r"head\.embedding_size: expected int <= 65536"):
        save_checkpoint(path, Checkpoint(wide, initial_weights(wide, (), 0), 0, {}))


def test_header_that_lies_about_shapes(path):
    def lie(header: dict) -> None:
        header["neck.linear.weight"]["shape"] = header["neck.linear.weight"]["shape"][::-1] + [2]

    _rewrite_header(path, lie)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(path)


def test_header_that_swaps_two_axes(path):
    """The file is intact, but the spec does not match it."""
    _rewrite_header(path, lambda header: header["arc_margin.weight"]["shape"].reverse())
    with pytest.raises(CheckpointError, match=r"arc_margin\.weight: expected \[5, 512\], found \[512, 5\]"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.pop("spec"),
        lambda meta: meta.update(spec="{}"),
        lambda meta: meta.update(spec="no json"),
        lambda meta: meta.update(classes="many"),
        lambda meta: meta.update(spec=json.dumps(SPEC.to_dict() | {"surprise": 1})),
    ],
)
def test_header_that_does_not_parse(path, change):
    _rewrite_header(path, lambda header: change(header["__metadata__"]))
    with pytest.raises(CheckpointError, match="its header does not parse"):
        load_checkpoint(path)


def test_safetensors_file_of_another_program(path):
    _rewrite_header(path, lambda header: header["__metadata__"].update(format="other"))
    with pytest.raises(CheckpointError, match=f"expected format '{FORMAT}'"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 5, 100, 5000])
def test_truncated(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="Copy it again"):
        load_checkpoint(path)


class Bomb:
    """If unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["model.pdparams", "model.pth"])
def test_a_pickle_is_never_executed(tmp_path, name):
    trace = tmp_path / "executed"
    (tmp_path / name).write_bytes(pickle.dumps({"weight": Bomb(trace)}))
    with pytest.raises(CheckpointError, match="can execute code when it is loaded, so it was not opened"):
        load_checkpoint(tmp_path / name)
    assert not trace.exists()


def test_full_disk_keeps_the_old_checkpoint(path, checkpoint, monkeypatch):
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.tensors.save_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(path, checkpoint)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
