"""Published weights: every file format is read strictly, and nothing in a file is executed."""

import argparse
import io
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch
from safetensors.torch import save_file

import paddle_models.write_weights
import torch_models.checkpoint
import torch_models.write_weights
import zoo.import_weights
import zoo.write_weights
from parity_tests.libraries import published
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import FAMILIES, SMALL_SPECS, small
from zoo.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from zoo.errors import CheckpointError
from zoo.import_weights import fitting_models, import_weights
from zoo.published import files, torch_files
from zoo.published.files import read_published
from zoo.published.pickled_values import Opaque
from zoo.published.pickles import read_pickle
from zoo.specs import HeadSpec
from zoo.variants import get_spec

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, checkpoint: Checkpoint, *, backbone: bool = False) -> None:
    """The checkpoint in the format of the file's extension."""
    if path.suffix == ".pdparams":
        paddle.save(paddle_models.write_weights.state_dict(checkpoint, backbone=backbone), str(path))
        return
    state = torch_models.write_weights.state_dict(checkpoint, backbone=backbone)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "legacy")


@pytest.mark.parametrize("file", ["new.pth", "legacy.pth", "new.pdparams", "new.safetensors"])
@pytest.mark.parametrize("name", ["resnest50", "resnet18_ibn_a", "res2net50_vd", "neck_bn_bgr"])
def test_what_both_frameworks_write_is_read_back(tmp_path, name, file):
    checkpoint = random_checkpoint(SMALL_SPECS[FAMILIES.get(name, name)], seed=3, classes=5)
    write(tmp_path / file, checkpoint)
    again = import_weights(tmp_path / file, checkpoint.spec)
    assert again.classes == 5
    assert again.weights.keys() == checkpoint.weights.keys()
    assert all(np.array_equal(again.weights[key], value) for key, value in checkpoint.weights.items())
    assert again.provenance["framework"] == ("paddle" if file.endswith("pdparams") else "torch")
    assert again.provenance["imported_from"] == file


HEADS = {
    "linear": {},
    "bias, BatchNorm, whitening": {"neck": "linear_bn", "neck_bias": True, "embedding_size": 48, "whitening_size": 20},
    "BatchNorm first": {"neck": "bn_linear", "neck_bias": True, "embedding_size": 48},
    "BatchNorm": {"neck": "bn", "embedding_size": 256},
    "GeM alone": {"neck": "none", "embedding_size": 256},
    "two poolings": {"pool": "avg_gem", "neck": "linear_bn", "embedding_size": 32},
    "average": {"pool": "avg", "l2_before_neck": True, "embedding_size": 32},
}


@pytest.mark.parametrize("file", ["a.pth", "a.pdparams"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_of_ours_comes_back_whole(tmp_path, head, file, monkeypatch, capsys):
    """As a user imports it, who names the variant and states what `write_weights` said of the rest."""
    spec = replace(get_spec("resnet10_narrow"), head=HeadSpec(**HEADS[head]))
    checkpoint = random_checkpoint(spec, seed=3)
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    monkeypatch.chdir(tmp_path)
    framework = "paddle" if file.endswith("pdparams") else "torch"
    monkeypatch.setattr(sys, "argv", ["write_weights", "--ckpt", "c.safetensors", "--out", file])
    write_of = paddle_models.write_weights.write if framework == "paddle" else torch_models.write_weights.write
    zoo.write_weights.main(framework, Path(file).suffix, ("timm",), write_of)
    [options] = re.findall(r"`zoo\.import_weights` needs (.*)", capsys.readouterr().err)
    monkeypatch.setattr(sys, "argv", ["import_weights", file, "--out", "back.safetensors", *options.split()])
    zoo.import_weights.main()
    assert fingerprint(load_checkpoint("back.safetensors")) == fingerprint(checkpoint)


@pytest.mark.parametrize("file", ["backbone.pth", "backbone.pdparams"])
def test_a_backbone_has_its_published_names(tmp_path, file):
    checkpoint = random_checkpoint(get_spec("resnet18").headless().resized(64), seed=3)
    write(tmp_path / file, checkpoint, backbone=True)
    library = published("timm resnet18" if file.endswith(".pth") else "paddle.vision resnet18")
    values, _ = read_published(tmp_path / file)
    library.load({name: value for name, value in values.items() if not name.endswith("num_batches_tracked")})


def test_a_training_scripts_checkpoint_of_timm(tmp_path):
    """A training checkpoint: tensors beside an optimiser, the command's arguments and a custom class."""
    model = published("timm resnest14d").model.eval()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    state |= {"module.fc.weight": torch.zeros(1000, 2048), "module.fc.bias": torch.zeros(1000)}
    extra = {"epoch": 90, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {0: torch.zeros(3)}}}
    torch.save({"state_dict": state, **extra, "best": np.float64(0.81)}, tmp_path / "last.pth")
    checkpoint = import_weights(tmp_path / "last.pth", get_spec("timm resnest14d"), headless=True)
    assert checkpoint.spec.name == "resnest14"
    assert checkpoint.spec.head.embedding_size == 2048
    images = torch.rand(2, 3, 64, 97)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(images))
        found = torch_models.checkpoint.build(checkpoint)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ResNet18_vd", "Res2Net50_vd_26w_4s", "ResNeSt50_fast_1s1x64d"])
def test_paddleclas(tmp_path, name):
    """Each of its three naming schemes, in a file written by Paddle."""
    model = published(f"PaddleClas {name}").model
    model.eval()
    paddle.save(model.state_dict(), str(tmp_path / "pretrained.pdparams"))
    checkpoint = import_weights(tmp_path / "pretrained.pdparams", get_spec(f"PaddleClas {name}"), headless=True)
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    with torch.no_grad():
        found = torch_models.checkpoint.build(checkpoint)(torch.from_numpy(images)).numpy()
    expected = model(paddle.to_tensor(images)).numpy().reshape(2, -1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_same_tensors_of_another_network_are_refused(tmp_path):
    """timm's Res2Net-50-vd and PaddleClas' differ in their poolings and first block, but not in their tensors."""
    model = published("PaddleClas Res2Net50_vd_26w_4s").model
    paddle.save(model.state_dict(), str(tmp_path / "a.pdparams"))
    with pytest.raises(CheckpointError, match=r"names of another library.* Pass --model res2net50_vd_paddleclas\."):
        import_weights(tmp_path / "a.pdparams", get_spec("res2net50_vd"), headless=True)
    torch.save(published("timm res2net50d").model.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"names of another library.* Pass --model res2net50_vd\."):
        import_weights(tmp_path / "a.pth", get_spec("res2net50_vd_paddleclas"), headless=True)


def test_half_precision_views_and_parameters(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "transposed": base.T,
        "part": base[1:3, 2:],
        "parameter": torch.nn.Parameter(base.double()),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
    }
    for legacy in (False, True):
        torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        found, _ = read_published(tmp_path / "a.pth")
        for name, value in tensors.items():
            np.testing.assert_array_equal(found[name], value.detach().float().numpy(), err_msg=name)


class Bomb:
    """If unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth", "plain.pdparams"])
def test_a_pickle_is_never_executed(tmp_path, file):
    trace = tmp_path / "executed"
    state = {"fc.weight": torch.zeros(2, 2), "bomb": Bomb(trace)}
    if file == "plain.pdparams":
        (tmp_path / file).write_bytes(pickle.dumps({"fc.weight": np.zeros((2, 2), np.float32), "bomb": Bomb(trace)}))
    else:
        torch.save(state, tmp_path / file, _use_new_zipfile_serialization=file == "zip.pth")
    found, _ = read_published(tmp_path / file)
    assert list(found) == ["fc.weight"]
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickled_values(protocol):
    """Plain values and arrays are read; everything else becomes an inert object."""
    array = np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4))
    value = {"a": [1, 2.5, None, True, b"x", "é", -(10**20)], "b": (array, array), "c": {1, 2}, "d": Path("x")}
    found = read_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert found["a"] == value["a"]
    assert all(np.array_equal(item, array) for item in found["b"])
    assert isinstance(found["c"], Opaque | list)
    assert isinstance(found["d"], Opaque)


def test_a_pickle_of_shared_values_stays_small():
    """Each list contains the previous one twice: a reader that copies would need 2^60 lists."""
    value: list = []
    for _ in range(60):
        value = [value, value]
    assert len(read_pickle(io.BytesIO(pickle.dumps(value)))) == 2


@pytest.mark.parametrize("file", ["new.pth", "legacy.pth", "new.pdparams"])
def test_whatever_the_bytes_are(tmp_path, file):
    """A file with some bytes changed is either read or refused; nothing else happens."""
    state = {"layer1.0.bn1.weight": np.arange(5, dtype=np.float32), "fc.weight": np.ones((2, 3), np.float32)}
    if file.endswith(".pth"):
        tensors = {name: torch.from_numpy(value) for name, value in state.items()}
        torch.save(tensors, tmp_path / file, _use_new_zipfile_serialization=file == "new.pth")
    else:
        paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(tmp_path / file))
    whole, random, refused = (tmp_path / file).read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        (tmp_path / file).write_bytes(data)
        try:
            read_published(tmp_path / file)
        except CheckpointError:
            refused += 1
    assert 0 < refused < 400


@pytest.mark.parametrize("kept", [0, 3, 200, -2000, -1])
@pytest.mark.parametrize("file", ["new.pth", "legacy.pth", "new.pdparams"])
def test_a_file_that_is_cut_off(tmp_path, file, kept):
    write(tmp_path / file, random_checkpoint(small("resnet18"), seed=3))
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[:kept])
    with pytest.raises(CheckpointError, match="Download it again"):
        import_weights(tmp_path / file, small("resnet18"))


def test_a_tensor_that_reaches_beside_its_storage(tmp_path):
    """The sizes in the pickle may contradict the file's data."""
    torch.save({"a": torch.zeros(4, 3)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    larger = entries[pickled].replace(b"K\x04K\x03\x86", b"K\x64K\x64\x86")
    assert larger != entries[pickled]
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for name, data in (entries | {pickled: larger}).items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="outside its storage of 12 values"):
        read_published(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "text, which starts with .hello., and so does no file of weights"),
        (pickle.dumps([1, 2]), "contains a value of type list, not a state dict"),
        (pickle.dumps({"epoch": 3}), "contains no tensors; its keys are .epoch."),
        (struct.pack("<Q", 3) + b"{}", "not a readable safetensors file"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_published(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_published(tmp_path / "none.pth")


def test_what_does_not_fit_is_shown_with_what_would(tmp_path):
    theirs = published("timm resnet26d").model
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as refused:
        import_weights(tmp_path / "a.pth", get_spec("resnet26"), headless=True)
    message = str(refused.value)
    assert "- backbone.conv1.weight [64, 3, 7, 7] is missing" in message
    assert "+ backbone.conv1.0.weight [32, 3, 3, 3] is not part of this model (the file's conv1.0.weight)" in message
    assert "… and" in message
    assert "--model resnet26_vd" in message
    with pytest.raises(CheckpointError, match="no embedding layer of ours: pass --headless"):
        import_weights(tmp_path / "a.pth", get_spec("resnet26_vd"))
    values, _ = read_published(tmp_path / "a.pth")
    assert fitting_models(values) == ["resnet26_vd"]
    values["layer1.0.conv1.weight"] = values["layer1.0.conv1.weight"][:8]
    assert fitting_models(values) == []


def test_the_command(tmp_path):
    spec = replace(get_spec("resnet18").headless())
    write(tmp_path / "a.pth", random_checkpoint(spec.resized(64), seed=3), backbone=True)
    words = [sys.executable, "-m", "zoo.import_weights", tmp_path / "a.pth", "--model", "resnet18"]
    options = ["--headless", "--size", "96", "--channels", "bgr", "--out", tmp_path / "ours.safetensors"]
    done = subprocess.run([*map(str, words + options)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(tmp_path / "ours.safetensors")
    checkpoint = load_checkpoint(tmp_path / "ours.safetensors")
    assert (checkpoint.spec.preprocess.size, checkpoint.spec.preprocess.channels) == (96, "bgr")
    assert checkpoint.spec.preprocess.mean == (0.406, 0.456, 0.485), "the mean must follow its channel"
    done = subprocess.run(
        [*map(str, [*words, "--out", tmp_path / "b.safetensors"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pass --headless" in done.stderr
    assert not (tmp_path / "b.safetensors").exists()


def test_a_shared_storage_is_read_once(tmp_path, monkeypatch):
    whole = torch.arange(400.0)
    torch.save({f"part{n}": whole[n : n + 200] for n in range(200)}, tmp_path / "a.pth")
    reads = []
    monkeypatch.setattr(torch_files, "_values", lambda raw, dtype: reads.append(dtype) or np.frombuffer(raw, dtype))
    tensors, _ = files.read_published(tmp_path / "a.pth")
    assert len(tensors) == 200
    assert tensors["part7"].tolist() == list(range(7, 207))
    assert len(reads) == 1
