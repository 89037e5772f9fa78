"""Backbones under any prefix, in any wrapper and type; and what is no file of weights is called by its name."""

import bz2
import dataclasses
import gzip
import importlib
import io
import itertools
import json
import lzma
import pickle
import re
import shutil
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

import torch_models.write_weights
import zoo.import_weights
import zoo.write_weights
from landmark_zoo.__main__ import dispatch
from zoo.checkpoint import FORMAT, Checkpoint, check_preprocess, load_checkpoint, save_checkpoint
from zoo.errors import CheckpointError, SpecError
from zoo.import_weights import import_weights
from zoo.lookup import find_spec
from zoo.published.files import layout, read_published
from zoo.published.pickles import read_pickle
from zoo.specs import PreprocessSpec
from zoo.tensors import write_tensors
from zoo.variants import SPECS, get_spec
from zoo.weights import initial_weights, parameter_shapes

SPEC = get_spec("resnet10_narrow").headless()
TRUTH = {
    name: (np.random.default_rng(index).random(shape) + 0.1).astype(np.float32)
    for index, (name, shape) in enumerate(parameter_shapes(SPEC).items())
}
BODY = {name.removeprefix("backbone."): torch.from_numpy(value.copy()) for name, value in TRUTH.items()}


def under(prefix: str, tensors: dict = BODY) -> dict:
    return OrderedDict((prefix + name, value) for name, value in tensors.items())


def nested(tensors: dict) -> dict:
    """{"layer1": {"0": {"conv1": {"weight": …}}}}."""
    made: dict = {}
    for name, value in tensors.items():
        place = made
        *modules, last = name.split(".")
        for module in modules:
            place = place.setdefault(module, {})
        place[last] = value
    return made


def imported(tmp_path, value, **options) -> dict[str, np.ndarray]:
    torch.save(value, tmp_path / "a.pth")
    return import_weights(tmp_path / "a.pth", SPEC, headless=True, **options).weights


def require_equal(found: dict[str, np.ndarray], factor: float = 1) -> None:
    assert found.keys() == TRUTH.keys()
    for name, value in TRUTH.items():
        np.testing.assert_array_equal(found[name], value * np.float32(factor), err_msg=name)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "module.model.backbone.",
        "_orig_mod.module.",
        "net.0.",
        "encoder.base.",
        "a.b.c.d.e.",
    ],
)
def test_a_backbone_is_found_under_any_prefix(tmp_path, prefix, capsys):
    others = {
        "head.weight": torch.ones(3, 4),
        "criterion.centers": torch.ones(9),
        "pixel_mean": torch.zeros(1, 3, 1, 1),
    }
    require_equal(imported(tmp_path, under(prefix) | others))
    said = capsys.readouterr().err
    assert "left out, because they are not the backbone's: head.weight, criterion.centers, pixel_mean" in said


@pytest.mark.parametrize("part", ["_orig_mod.", "module.", "_fsdp_wrapped_module."])
def test_wrappers_inside_a_name_do_not_matter(tmp_path, part):
    names = {name.replace(".conv", f".{part}conv").replace("layer1.", f"layer1.{part}"): v for name, v in BODY.items()}
    require_equal(imported(tmp_path, names))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "weights", "anything"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_state_dict_is_found_under_any_key(tmp_path, key, depth):
    value: dict = under("module.")
    for level in range(depth):
        value = {key: value, "epoch": level, "loss": 0.3, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    require_equal(imported(tmp_path, value))


@pytest.mark.parametrize("key", ["state_dict_ema", "params_ema", "ema_net", "swa_model", "model_avg"])
def test_averaged_weights_come_first(tmp_path, key):
    double = {name: value * 2 for name, value in BODY.items()}
    require_equal(imported(tmp_path, {"state_dict": BODY, key: under("module.", double)}), factor=2)
    require_equal(imported(tmp_path, under("model.") | under("model_ema.module.", double)), factor=2)
    with pytest.raises(CheckpointError, match="2 backbones"):  # "ema" within a word says nothing
        imported(tmp_path, under("model.") | under("schema.", double))


def test_two_backbones_need_a_prefix(tmp_path):
    double = {name: value * 2 for name, value in BODY.items()}
    value = under("encoder_q.") | under("encoder_k.", double)
    with pytest.raises(CheckpointError, match=r"2 backbones, under 'encoder_q\.' and 'encoder_k\.'; pass --prefix"):
        imported(tmp_path, value)
    require_equal(imported(tmp_path, value, prefix="encoder_k."), factor=2)
    value = {"student": BODY, "teacher": double}
    with pytest.raises(CheckpointError, match="2 backbones, under 'student/' and 'teacher/'; pass --prefix"):
        imported(tmp_path, value)
    require_equal(imported(tmp_path, value, prefix="teacher/"), factor=2)


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": BODY, "model_ema": {name: v * 2 for name, v in BODY.items() if "running" not in name}},
        {"state_dict": {"projector.weight": torch.ones(3)}, "model": BODY},
        BODY | {"state_dict": {"projector.weight": torch.ones(3)}},
        {"model": BODY, "net": {name: value.clone() for name, value in BODY.items()}},
        [{"a": 1}, BODY],
        {"models": [BODY], "epoch": 3},
        {"state": defaultdict(dict, BODY)},
        under("backbone.") | under("model.backbone.") | {"fc.weight": torch.ones(3)},
    ],
    ids=["ema without statistics", "projector", "beside", "equal", "list", "in a list", "own mapping", "alias"],
)
def test_the_state_dict_with_the_backbone_is_found(tmp_path, value):
    require_equal(imported(tmp_path, value))


def test_a_convolution_inside_the_backbone_is_not_left_out(tmp_path):
    value = under("backbone.") | {
        "backbone.NL_2.0.g.weight": torch.ones(3, 3, 1, 1),
        "backbone.fc.weight": torch.ones(3, 3),
    }
    with pytest.raises(CheckpointError, match=r"\+ backbone\.NL_2\.0\.g\.weight(.|\n)*pass --prefix"):
        imported(tmp_path, value)
    require_equal(imported(tmp_path, value, prefix="backbone."))


def test_a_buffer_called_mean_does_not_make_it_paddles(tmp_path):
    spec = get_spec("resnet10_narrow")
    spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, embedding_size=256))
    weights = initial_weights(spec, (), 0)
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    torch.save({"model": state, "input._mean": torch.ones(3)}, tmp_path / "a.pth")
    found = import_weights(tmp_path / "a.pth", spec).weights["neck.linear.weight"]
    np.testing.assert_array_equal(found, weights["neck.linear.weight"])
    assert layout([*state, "input._mean"]) == "torch"


class Subclass(torch.Tensor):
    """A tensor subclass, which is pickled by its own constructor."""


@pytest.mark.parametrize("kind", ["parameter", "attributes", "subclass", "flat", "half", "double", "bfloat16"])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_every_make(tmp_path, kind, legacy):
    def made(value: torch.Tensor) -> torch.Tensor:
        if kind in ("parameter", "attributes"):
            value = torch.nn.Parameter(value)
            if kind == "attributes":
                value.no_decay = True
        if kind == "subclass":
            value = value.as_subclass(Subclass)
        return {"half": value.half, "double": value.double, "bfloat16": value.bfloat16}.get(kind, lambda: value)()

    value = {name: made(value) for name, value in BODY.items()}
    if kind == "flat":  # all tensors are views of one buffer
        whole = torch.cat([tensor.reshape(-1) for tensor in BODY.values()])
        parts = whole.split([tensor.numel() for tensor in BODY.values()])
        value = {name: part.view(BODY[name].shape) for name, part in zip(BODY, parts, strict=True)}
    torch.save(value, tmp_path / "a.bin", _use_new_zipfile_serialization=not legacy)
    found = import_weights(tmp_path / "a.bin", SPEC, headless=True).weights
    for name, tensor in BODY.items():
        expected = made(tensor).detach().float().numpy() if kind != "subclass" else tensor.numpy()
        np.testing.assert_array_equal(found[f"backbone.{name}"], expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth", ""])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_decide_and_not_the_suffix(tmp_path, suffix, dtype):
    values = {name: value.to(dtype) for name, value in BODY.items()}
    safetensors.torch.save_file(values, tmp_path / f"a{suffix}")
    found = import_weights(tmp_path / f"a{suffix}", SPEC, headless=True).weights
    assert all(np.array_equal(found[f"backbone.{name}"], value.float().numpy()) for name, value in values.items())
    torch.save(values, tmp_path / f"b{suffix}")
    found = import_weights(tmp_path / f"b{suffix}", SPEC, headless=True).weights
    assert all(np.array_equal(found[f"backbone.{name}"], value.float().numpy()) for name, value in values.items())


def test_bfloat16_of_paddle_is_read_as_its_values(tmp_path):
    renamed = {n.replace("running_mean", "_mean").replace("running_var", "_variance"): v for n, v in BODY.items()}
    state = {name: paddle.to_tensor(value.numpy()).astype("bfloat16") for name, value in renamed.items()}
    paddle.save(state, str(tmp_path / "a.pdparams"))
    found = import_weights(tmp_path / "a.pdparams", SPEC, headless=True).weights
    for name, value in BODY.items():
        np.testing.assert_array_equal(found[f"backbone.{name}"], value.bfloat16().float().numpy())


@pytest.mark.parametrize("neck", [64, 128], ids=["other", "square"])
@pytest.mark.parametrize("container", ["safetensors", "torch", "paddle"])
@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_names_tell_the_layout_in_any_container(tmp_path, neck, container, framework):
    """A linear layer is [out, in] in PyTorch and [in, out] in Paddle; a square one looks the same."""
    spec = get_spec("resnet10_narrow")
    spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, embedding_size=neck))
    weights = initial_weights(spec, (), 0)
    side = importlib.import_module(f"{framework}_models.write_weights")
    state = {name: np.array(value) for name, value in side.state_dict(Checkpoint(spec, weights, 0, {})).items()}
    path = tmp_path / "a"
    if container == "safetensors":
        save_file(state, path)
    elif container == "torch":
        torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=4))
    found = import_weights(path, spec).weights
    assert all(np.array_equal(found[name], value) for name, value in weights.items())


_NO_WEIGHTS = (torch.int8, torch.int64, torch.bool, torch.uint8, torch.complex64)
_NEWER = (torch.uint16, torch.float8_e4m3fn)
"""Types that the old format does not have."""


@pytest.mark.parametrize(
    ("container", "dtype"),
    [
        *itertools.product(("zip", "safetensors"), (*_NO_WEIGHTS, *_NEWER)),
        *itertools.product(("legacy",), _NO_WEIGHTS),
    ],
)
def test_types_that_no_weight_has_are_refused(tmp_path, dtype, container):
    """By name if the backbone has them; a head may have any."""

    def write(values: dict) -> Path:
        if container == "safetensors":
            safetensors.torch.save_file(values, tmp_path / "a")
        else:
            torch.save(values, tmp_path / "a", _use_new_zipfile_serialization=container == "zip")
        return tmp_path / "a"

    wrong = BODY["layer1.0.conv1.weight"].to(dtype)
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight.*expected .*float32"):
        import_weights(write(BODY | {"layer1.0.conv1.weight": wrong}), SPEC, headless=True)
    require_equal(import_weights(write(BODY | {"head.weight": wrong}), SPEC, headless=True).weights)


class Strange:
    """An object that stands where a tensor should."""


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.ones(32).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.ones(32, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (torch.view_as_complex(torch.ones(32, 2)).conj().imag, "the bit 'neg'"),
        (Strange(), "Strange"),
    ],
)
def test_an_unknown_constructor_is_named(tmp_path, value, name):
    with pytest.raises(CheckpointError, match=rf"bn1\.weight is not readable as weights \(.*{name}\)"):
        imported(tmp_path, BODY | {"bn1.weight": value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("layer1.0.bn1.weight", float("nan"), "not finite"),
        ("conv1.weight", float("inf"), "not finite"),
        ("layer2.0.bn1.running_var", -1.0, "negative variances"),
        ("bn1.bias", 1e300, r"above 3\.4e\+38"),
    ],
)
def test_values_that_no_weight_has_are_refused_by_the_files_name(tmp_path, name, value, reason):
    tensor = torch.full_like(BODY[name], value, dtype=torch.float64)
    with pytest.raises(CheckpointError, match=rf"a\.pth: {name}.*{reason}") as refused:
        imported(tmp_path, BODY | {name: tensor})
    assert "train" not in str(refused.value) or "that training" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pool.p", value) for value in (0.0, -3.0, 1e-30, 1e30)),
        ("backbone.bn1.running_var", -1e-9),
        ("backbone.conv1.weight", 3e38),
    ],
)
def test_such_values_are_refused_in_a_checkpoint_too(tmp_path, name, value):
    spec = get_spec("resnet10_narrow")
    weights = initial_weights(spec, (), 0)
    weights[name] = np.full_like(weights[name], value)
    with pytest.raises(CheckpointError, match=rf"c\.safetensors: {name}"):
        save_checkpoint(tmp_path / "c.safetensors", Checkpoint(spec, weights, 0, {}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "preprocess",
    [
        PreprocessSpec(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        PreprocessSpec(mean=(float("nan"), 0, 0)),
        PreprocessSpec(std=(1e-9, 1, 1)),
        PreprocessSpec(std=(-0.2, 0.2, 0.2)),
        PreprocessSpec(size=10**9),
    ],
)
def test_preprocessing_out_of_range_is_refused(tmp_path, preprocess):
    torch.save(BODY, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="preprocessing"):
        import_weights(tmp_path / "a.pth", dataclasses.replace(SPEC, preprocess=preprocess), headless=True)


def test_a_mean_for_255_is_refused_with_the_values_to_give(tmp_path, monkeypatch):
    torch.save(BODY, tmp_path / "a.pth")
    words = [tmp_path / "a.pth", "--model", "resnet10_narrow", "--headless", "--out", tmp_path / "c.safetensors"]
    words += ["--mean", 123.675, 116.28, 103.53, "--std", 58.395, 57.12, 57.375]
    words = list(map(str, words))
    monkeypatch.setattr("sys.argv", ["import_weights", *words])
    for command in (zoo.import_weights.main, lambda: dispatch(["import", *words])):
        with pytest.raises(CheckpointError, match=r"divide by 255, --mean 0\.485 0\.456 0\.406 --std 0\.229"):
            command()


@pytest.mark.parametrize("stem", ["conv", "conv1", "conv1_1"])
def test_paddleclas_before_2_2(tmp_path, stem):
    def renamed(name: str) -> str:
        module, _, last = name.rpartition(".")
        last = {"running_mean": "_mean", "running_var": "_variance"}.get(last, last)
        if module in ("conv1", "bn1"):
            return f"{stem}.{'_conv' if module == 'conv1' else '_batch_norm'}.{last}"
        layer, index, part = re.fullmatch(r"layer(\d)\.(\d)\.(.+)", module).groups()
        if part.startswith("downsample"):
            inside = f"short.{'_conv' if part.endswith('0') else '_batch_norm'}"
        else:
            inside = f"conv{int(part[-1]) - 1}.{'_conv' if part.startswith('conv') else '_batch_norm'}"
        return f"bb_{int(layer) - 1}_{index}.{inside}.{last}"

    arrays = {renamed(name): value.numpy() for name, value in BODY.items()} | {
        "out.weight": np.ones((3, 2), np.float32)
    }
    paddle.save({name: paddle.to_tensor(value) for name, value in arrays.items()}, str(tmp_path / "a.pdparams"))
    require_equal(import_weights(tmp_path / "a.pdparams", SPEC, headless=True).weights)


def test_one_tensor_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"! backbone\.bn1\.weight.*\n.*All other tensors of resnet10_narrow fit"):
        imported(tmp_path, BODY | {"bn1.weight": torch.ones(7)})
    extra = BODY | {"layer1.0.se.fc1.weight": torch.ones(2, 2, 1, 1)}
    with pytest.raises(CheckpointError, match=r"\+ backbone\.layer1\.0\.se\.fc1\.weight"):
        imported(tmp_path, extra)


def test_an_expanded_view_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(CheckpointError, match=r"must be saved as a copy, `tensor\.clone\(\)`"):
        imported(tmp_path, BODY | {"bn1.weight": torch.ones(1).expand(32)})


@pytest.mark.parametrize(
    ("change", "head"),
    [
        ({"neck.linear.weight": np.ones((7, 256), np.float32)}, {"embedding_size": 7}),
        ({"neck.linear.weight": None}, {"neck": "none", "embedding_size": 256}),
        ({"pool.p": None}, "nothing in it says how it pools"),
        ({"neck.whitening.linear.weight": np.ones((7, 9), np.float32)}, r"expected .7, 512., found .7, 9."),
        ({"neck.mlp.weight": np.ones((7, 9), np.float32)}, r"but for neck\.mlp\.weight, which the zoo does not have"),
    ],
)
def test_the_head_is_what_the_file_has(tmp_path, change, head):
    spec = get_spec("resnet10_narrow")
    values = initial_weights(spec, (), 0) | change
    torch.save({n: torch.from_numpy(v) for n, v in values.items() if v is not None}, tmp_path / "a.pth")
    if isinstance(head, dict):
        assert import_weights(tmp_path / "a.pth", spec).spec.head == dataclasses.replace(spec.head, **head)
        return
    with pytest.raises(CheckpointError, match=head):
        import_weights(tmp_path / "a.pth", spec)


def test_what_a_state_dict_forgets_is_said(tmp_path, capsys, monkeypatch):
    spec = get_spec("resnet10_narrow").resized(80)
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(spec, initial_weights(spec, (), 0), 0, {}))
    words = ["write", "--ckpt", tmp_path / "c.safetensors", "--out", tmp_path / "c.pth"]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    zoo.write_weights.main("torch", ".pth", ("timm",), torch_models.write_weights.write)
    assert (
        "`zoo.import_weights` needs --model resnet10_narrow --size 80 --channels rgb --mean 0.485 0.456 0.406"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (
            "resnet18",
            {},
            ["compute the same: timm resnet18, torchvision resnet18", "--model resnet18 --headless --size"],
        ),
        ("resnet18", {"last_stride": 1}, ["no network of timm", "--headless --last-stride 1 --size"]),
        ("resnet18", {"stem_pool": "ceil"}, ["no network of timm", "--headless --stem-pool ceil --size"]),
        (
            "resnet26",
            {"stride_in_first": True},
            ["no network of timm", "no option states stride_in_first True: import"],
        ),
    ],
)
def test_who_can_load_a_backbone_is_said(tmp_path, capsys, monkeypatch, model, changes, said):
    """A library's network with the same tensors may compute something else."""
    spec = get_spec(model).headless()
    spec = dataclasses.replace(spec, backbone=dataclasses.replace(spec.backbone, **changes))
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(spec, initial_weights(spec, (), 0), 0, {}))
    words = ["write", "--ckpt", tmp_path / "c.safetensors", "--backbone", "--out", tmp_path / "c.pth"]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    zoo.write_weights.main("torch", ".pth", ("timm", "torchvision"), torch_models.write_weights.write)
    found = capsys.readouterr().err
    assert all(line in found for line in said), found


@pytest.mark.parametrize(
    ("mean", "std", "advice"),
    [
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225), r"divide by 255, --mean 0\.485 0\.456 0\.406\."),
        ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), r"--mean 0\.4076 0\.458 0\.485 --std 0\.003922"),
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), r"divide by 255, --std 1 1 1\."),
        ((-0.5, 0.5, 0.5), (0.5, 0.5, 0.5), r"from 0\.001 to 1\.$"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 1e-4), r"from 0\.001 to 1\.$"),
    ],
)
def test_only_what_is_for_255_is_to_be_divided(mean, std, advice):
    with pytest.raises(CheckpointError, match=advice):
        check_preprocess(PreprocessSpec(mean=mean, std=std))


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"), io.BytesIO())
    return buffer.getvalue()


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    torch.export.save(torch.export.export(network, (torch.ones(1, 3, 8, 8),)), buffer)
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.numpy() for name, value in BODY.items()})
    return buffer.getvalue()


def saved() -> bytes:
    buffer = io.BytesIO()
    torch.save(BODY, buffer)
    return buffer.getvalue()


FOREIGN = {
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "web page": b"\xef\xbb\xbf\n<!DOCTYPE html><html>404</html>",
    "gzip": b"\x1f\x8b\x08\x00rest",
    "bzip2": b"BZh91AY&SY",
    "xz": b"\xfd7zXZ\x00\x00",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "RAR": b"Rar!\x1a\x07\x00",
    "tar": tarred(),
    "numpy array": b"\x93NUMPY\x01\x00",
    "empty": b"",
    "ONNX": b"\x08\x08\x12\x07pytorch",
    r"saved_model\.pb": b"\x08\x01\x12\xd0\x04\x0a",
    "frozen graph": b"\x0a\x1d\x0a\x05input\x12\x0bPlaceholder",
    r"\.pdmodel": b"\x0a\xe5\x12\x08\x00\x10\xff\xff",
    r"\.caffemodel": b"\x0a\x09ResNet-50\xa2\x06",
    r"\.params": b"\x12\x01" + bytes(6) + bytes(8) + b"\x02" + bytes(7),
    "Flax": b"\x82\xa6params\x81\xa5conv1",
    "Flax ": b"\xde\x00\x21\xa6params",
    "TensorFlow Lite": b"\x1c\x00\x00\x00TFL3\x14\x00",
    "MATLAB": b"MATLAB 5.0 MAT-file, Platform: GLNXA64",
    "list of a TensorFlow checkpoint": b'model_checkpoint_path: "model.ckpt-7"\n',
    r"TensorFlow \(\.index": b"\x00\x00\x06\x08\x01" + bytes.fromhex("57fb808b247547db"),
    "all in only.safetensors": b'{"metadata": {"a": "\xc3\xa9"}, "weight_map": {"a": "only.safetensors"}}',
    "several files, a-1-of-2.bin, a-2-of-2.bin": b'{\n "weight_map": {"a": "a-1-of-2.bin", "b": "a-2-of-2.bin"}}',
    "configuration": b'{"architectures": ["ResNetModel"]}',
    "that an index names": b'{"data":{"a":1}}',
    "inference format": b"\x00" * 40,
    "nothing but zeros": b"\x00" * 1000,
    "text, which starts with 'Entry not found'": b"Entry not found\n",
    "text, which starts with 'cannot": b"cannot be found.",
    "starts with": b"\n\nhello",
    "starts with b'": b"\x99\x01\xff\x07",
    "Zstandard": b"\x28\xb5\x2f\xfd\x00",
    "TorchScript": scripted(),
    r"torch\.export": exported(),
    "Keras": zipped(**{"metadata.json": b"", "model.weights.h5": b""}),
    ".npz": zipped(**{"a.npy": b""}),
    "a zip": zipped(readme=b""),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_called_by_its_name(tmp_path, kind, suffix):
    (tmp_path / f"a{suffix}").write_bytes(FOREIGN[kind])
    with pytest.raises(CheckpointError, match=kind) as refused:
        import_weights(tmp_path / f"a{suffix}", SPEC, headless=True)
    assert "cut off" not in str(refused.value)


def test_the_values_of_a_tensorflow_checkpoint_are_known_by_their_name(tmp_path):
    path = tmp_path / "model.ckpt-7.data-00000-of-00001"
    path.write_bytes(b"\x99\x01\xff\x07" * 9)
    with pytest.raises(CheckpointError, match="part of a TensorFlow checkpoint"):
        import_weights(path, SPEC, headless=True)


def tar_of_weights() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("unpacked/weights.pth")
        entry.size = len(saved())
        archive.addfile(entry, io.BytesIO(saved()))
    return buffer.getvalue()


ADVISED = {
    "a.pth.gz": lambda: gzip.compress(saved()),
    "a b.pth": lambda: bz2.compress(saved()),
    "a.pth.xz": lambda: lzma.compress(saved()),
    "a.tar.gz": tar_of_weights,
    "b.pth.tar": lambda: gzip.decompress(tar_of_weights()),
    "a.zip": lambda: zipped(**{"weights.pth": saved()}),
    "a.npz": arrays,
    "script.pt": scripted,
    "a.pt2": exported,
}


@pytest.mark.parametrize("name", ADVISED)
def test_the_advice_leads_to_a_file_of_weights(tmp_path, monkeypatch, name):
    """It is followed to the letter."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(ADVISED[name]())
    with pytest.raises(CheckpointError) as refused:
        read_published(path)
    command = str(refused.value).split("`")[1]
    if command.startswith("torch."):
        exec(command, {"torch": torch, "numpy": np, "FILE": path})
    else:
        if shutil.which(command.split()[0]) is None:
            pytest.skip(f"{command.split()[0]} is not installed here")
        subprocess.run(["bash", "-c", command], check=True)
    path.unlink()
    [made] = [file for file in tmp_path.rglob("*") if file.is_file()]
    found, framework = read_published(made)
    assert found and framework == "torch"
    if name not in ("script.pt", "a.pt2"):
        assert all(np.array_equal(found[key], value.numpy()) for key, value in BODY.items())


def test_a_folder_is_said_to_be_one_with_what_it_holds(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"is a folder; .* it holds model\.safetensors\.$"):
        read_published(tmp_path)
    (tmp_path / ".metadata").touch()
    with pytest.raises(CheckpointError, match="dcp_to_torch"):
        read_published(tmp_path)


def test_one_file_of_several_is_known_by_its_name(tmp_path):
    path = tmp_path / "model-00001-of-00003.safetensors"
    safetensors.torch.save_file(dict(list(BODY.items())[:40]), path)
    with pytest.raises(CheckpointError, match="it is one of 3 files"):
        import_weights(path, SPEC, headless=True)


@pytest.mark.parametrize("key", ["master_params", "master_weights", "fp16/master"])
def test_the_copy_of_an_optimiser_comes_last(tmp_path, capsys, key):
    """Training in half precision keeps the weights twice."""
    half = {name: value.half() for name, value in BODY.items()}
    wide = {name: value + 1e-5 for name, value in BODY.items()}
    value = {key: wide, "model": half} if "/" not in key else {"fp16": {"master": wide}, "model": half}
    found = imported(tmp_path, value)
    assert all(np.array_equal(found[f"backbone.{name}"], tensor.float().numpy()) for name, tensor in half.items())
    assert f"the model's own weights were read, 'model'; --prefix {key}/ reads the others" in capsys.readouterr().err
    found = imported(tmp_path, value, prefix=f"{key}/")
    assert all(np.array_equal(found[f"backbone.{name}"], tensor.numpy()) for name, tensor in wide.items())


@pytest.mark.parametrize("prefix", ["module.net.", "net", "module.net", "net."])
def test_a_prefix_is_taken_as_it_is_typed(tmp_path, prefix):
    require_equal(imported(tmp_path, under("module.net."), prefix=prefix))


def test_a_prefix_that_no_name_has_is_an_error(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no name in it begins with 'nett\.'; a backbone's names begin with 'net\.'"
    ):
        imported(tmp_path, under("net."), prefix="nett.")


def test_the_weights_that_are_not_averaged_can_be_chosen(tmp_path):
    double = {name: value * 2 for name, value in BODY.items()}
    value = {"state_dict": under("module.", BODY), "state_dict_ema": double}
    require_equal(imported(tmp_path, value, prefix="state_dict/module."))
    require_equal(imported(tmp_path, value), factor=2)


NAMES = {
    "pairs": list(BODY.items()),
    "bytes": {name.encode(): value for name, value in BODY.items()},
    "flattened by Flax": {("model", *name.split(".")): value for name, value in BODY.items()},
    "nested": nested(BODY),
    "nested in a key": {"params": nested(BODY), "step": 3},
    "twice": BODY | under("module.", {name: value.clone() for name, value in BODY.items()}),
    "numbers beside": BODY | {1: torch.ones(3)},
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_every_make(tmp_path, kind):
    require_equal(imported(tmp_path, NAMES[kind]))


@pytest.mark.parametrize(
    "beside",
    [
        np.array(["a", "b"]),
        np.array([{}, None], dtype=object),
        np.zeros(3, [("a", "f4")]),
        np.array(["2020-01-01"], "M8[D]"),
        np.ma.masked_array([1.0]),
        torch.ones(1).expand(2**40),
    ],
    ids=["texts", "objects", "records", "dates", "masked", "expanded"],
)
def test_what_stands_beside_the_weights_does_not_matter(tmp_path, beside):
    require_equal(imported(tmp_path, BODY | {"classes": beside}))


def test_parameters_without_statistics_are_said_to_be(tmp_path):
    with pytest.raises(CheckpointError, match="parameters only, without the statistics of BatchNorm"):
        imported(tmp_path, {name: value for name, value in BODY.items() if "running" not in name})


def test_names_of_no_known_library_are_shown(tmp_path):
    with pytest.raises(CheckpointError, match=r"'CONV1\.WEIGHT', .* rename them as timm does"):
        imported(tmp_path, {name.upper(): value for name, value in BODY.items()})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bytes_behind_the_tensors_are_said_to_be(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    safetensors.torch.save_file(BODY, path)
    path.write_bytes(path.read_bytes() + b"\n\n\n")
    with pytest.raises(CheckpointError, match=r"3 bytes follow its tensors.*Download it again\.$"):
        import_weights(path, SPEC, headless=True)


def test_a_device_is_no_file_of_weights():
    with pytest.raises(CheckpointError, match="/dev/null is neither a file nor a folder"):
        import_weights(Path("/dev/null"), SPEC)


def test_space_that_was_reserved_and_never_filled_is_noticed(tmp_path):
    safetensors.torch.save_file(BODY, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(CheckpointError, match="nothing but zeros.*download it again"):
        import_weights(tmp_path / "a.safetensors", SPEC, headless=True)


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors", "paddle"])
@pytest.mark.parametrize("kept", [0.3, 0.9, -1])
def test_what_is_cut_off_is_said_to_be(tmp_path, container, kept):
    path = tmp_path / "a"
    if container == "safetensors":
        safetensors.torch.save_file(BODY, path)
    elif container == "paddle":
        path.write_bytes(pickle.dumps({name: value.numpy() for name, value in BODY.items()}))
    else:
        torch.save(BODY, path, _use_new_zipfile_serialization=container == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept > 0 else kept])
    with pytest.raises(CheckpointError, match=r"is cut off.*Download it again\.$"):
        import_weights(path, SPEC, headless=True)


def test_a_zip_with_two_entries_of_one_name_is_refused(tmp_path):
    torch.save(BODY, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/data/0", bytes(archive.getinfo("a/data/0").file_size))
    with pytest.raises(CheckpointError, match="two entries of one name"):
        import_weights(tmp_path / "a.pth", SPEC, headless=True)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(tmp_path, protocol):
    (tmp_path / "a").write_bytes(pickle.dumps({name: value.numpy() for name, value in BODY.items()}, protocol))
    require_equal(import_weights(tmp_path / "a", SPEC, headless=True).weights)


@pytest.mark.parametrize(
    ("function", "argument"),
    [("__builtin__.tuple", "]" + "(" + "N" * 100_000 + "e"), ("_codecs.encode", "X\x40\x42\x0f\x00" + "a" * 1_000_000)],
)
def test_a_small_pickle_cannot_copy_without_end(function, argument):
    module, name = function.split(".")
    again = f"c{module}\n{name}\n".encode() + b"h\x00\x85R"
    made = b"\x80\x02" + argument.encode() + b"q\x000](" + again * 100_000 + b"e."
    with pytest.raises(CheckpointError, match="bytes of copies, more than the limit"):
        read_pickle(io.BytesIO(made))


@pytest.mark.parametrize("container", ["torch", "paddle"])
def test_tensors_that_share_one_storage_are_not_copied(tmp_path, container):
    """A dozen names of one array, none of which fits."""
    names = [
        f"layer{layer}.0.{part}" for layer in (1, 2, 3, 4) for part in ("conv1.weight", "bn1._mean", "bn1._variance")
    ]
    if container == "torch":
        whole = torch.zeros(4_000_000, dtype=torch.float16)
        torch.save({name: whole.view(-1) for name in names}, tmp_path / "a")
    else:
        array = np.zeros(4_000_000, np.uint16)
        (tmp_path / "a").write_bytes(pickle.dumps(dict.fromkeys(names, array), 4))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="expected"):
        import_weights(tmp_path / "a", SPEC, headless=True)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * 8_000_000


@pytest.mark.parametrize("pattern", ["a{}.layer1.0.conv1.weight", "layer1.{}.conv1.weight"])
@pytest.mark.parametrize("count", [15_000, 50_000])
def test_many_names_take_no_time(tmp_path, pattern, count):
    value = dict.fromkeys((pattern.format(number) for number in range(count)), np.ones(2, np.float32))
    (tmp_path / "a").write_bytes(pickle.dumps(value, 4))
    start = time.process_time()
    with pytest.raises(CheckpointError):
        import_weights(tmp_path / "a", SPEC, headless=True)
    assert time.process_time() - start < 15


def test_a_checkpoint_that_claims_endless_splits(tmp_path):
    spec = get_spec("res2net50").to_dict()
    spec["backbone"]["scale"] = 60_000
    header = {"format": FORMAT, "spec": json.dumps(spec), "classes": "0", "provenance": "{}"}
    write_tensors(tmp_path / "c.safetensors", TRUTH, header)
    with pytest.raises(CheckpointError, match=r"cannot be the 960,000 blocks"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_a_whole_model_is_refused_with_the_way_to_its_weights(tmp_path):
    for value in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2), "epoch": 3}):
        with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*model\.state_dict\(\)"):
            imported(tmp_path, value)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ResNet26", "resnet26"),
        ("TIMM resnet50D", "resnet50_vd"),
        ("paddleclas RESNEST50", "resnest50_paddleclas"),
    ],
)
def test_names_are_found_in_any_case(typed, expected):
    assert find_spec(typed).name in (expected, next(n for n in SPECS if n == find_spec(typed).name))


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("ResNet50", r"resnet50 or resnet50_v1 \(keras.applications ResNet50\)"),
        ("ResNet18_vd", r"resnet18_vd or resnet18_vd_paddleclas \(PaddleClas ResNet18_vd\)"),
        ("ResNeSt50", r"resnest50 or resnest50_paddleclas \(PaddleClas ResNeSt50\)"),
        ("res2net50_26w_4s", r"res2net50 \(timm res2net50_26w_4s\)"),
        ("RES2NET50_26W_4S", r"res2net50 \(timm res2net50_26w_4s\)"),
        ("resnest50d", r"resnest50 \(timm resnest50d\)"),
        ("resnet5O", "resnet50"),
        ("x" * 10_000, "landmark-zoo models"),
    ],
)
def test_suggestions_know_the_published_names(typed, suggested):
    with pytest.raises(SpecError, match=suggested) as refused:
        find_spec(typed)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("provenance", value) for value in ("[1]", "null", "[" * 100_000, '{"a": ' * 100, "{")),
        *(("classes", value) for value in ("-1", "1.5", "9" * 5000, "true", "x")),
        *(("spec", value) for value in ("[]", "null", "{}", "{" * 5)),
    ],
)
def test_a_damaged_header_is_an_error(tmp_path, key, value):
    header = {"format": FORMAT, "spec": json.dumps(SPEC.to_dict()), "classes": "0", "provenance": "{}"}
    write_tensors(tmp_path / "c.safetensors", TRUTH, header)
    load_checkpoint(tmp_path / "c.safetensors")
    write_tensors(tmp_path / "c.safetensors", TRUTH, header | {key: value})
    with pytest.raises(CheckpointError, match=r"c\.safetensors: its header does not parse"):
        load_checkpoint(tmp_path / "c.safetensors")
