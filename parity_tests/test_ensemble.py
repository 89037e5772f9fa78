"""members → ensemble by the command line: views, weights, norm, whitening and storage, compared with numpy.

The command measures its own errors and fails if one exceeds its tolerance; here its graph is also compared with the
outputs of the members.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import check
from export.embedder import batch_inputs, call_batch
from export.ensemble import ensemble
from export.parity import probes
from export.saved_model_file import read_saved_model
from export.storage import Storage
from export.writer.combine import Combination, NumpyArrays, Whitening
from export.writer.convert import save_normal_form
from export.writer.member import FUNCTION, member_from_saved_model
from export.writer.save import write_saved_model
from parity_tests.small_models import FAMILIES, SMALL_SPECS, in_normal_form
from retrieval.embeddings import Embeddings
from retrieval.whitening import fit, write_whitening
from zoo.errors import ExportError
from zoo.manifest import Manifest, require_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = {
    "first": ("resnet18", 64, {}),
    "second": ("neck_bn_bgr", 64, {}),
    "smaller": ("resnest50", 48, {}),
    "bilinear": ("bilinear_not_normalised", 64, {}),
    "static": ("resnet18", 64, {"static": True}),
}
"""{folder: a small network, its resolution, and how it is stored}."""
WEIGHTS = (1, 0.8, 0.55, 0.5)
"""The weights of the contest's first place."""
PIXELS = {"images_64": probes.pixel_batches(64, seed=3)["b3x64x64"]}
SIDES = {"images_48": 48, "images_64": 64}
VIEWS = {f"images_{side}_bilinear": probes.pixel_batches(side, seed=side)[f"b3x{side}x{side}"][:2] for side in (48, 80)}
LENGTH = 64
"""Length of a member's descriptor."""


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Path:
    """A folder with each member's SavedModel."""
    folder = tmp_path_factory.mktemp("members")
    for key, (name, size, options) in MEMBERS.items():
        name = FAMILIES.get(name, name)
        model = onnx.ModelProto.FromString(in_normal_form(name, "torch").SerializeToString())
        properties = {entry.key: entry.value for entry in model.metadata_props}
        properties["spec"] = json.dumps(SMALL_SPECS[name].resized(size).to_dict())
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, folder / f"{key}.onnx")
        save_normal_form(folder / f"{key}.onnx", folder / key, Storage(**options))
    return folder


def command(*words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "export.ensemble", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def made(folders: list[Path], out: Path, *options: object) -> Path:
    """The SavedModel that the command makes; every error that it measured is within tolerance."""
    done = command("--members", *folders, "--out", out, "--json", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    *_, figures, path = done.stdout.splitlines()
    rows = json.loads(figures)["parity"]
    assert [row["arrow"] for row in rows] == ["members → ensemble", "savedmodel → tf 2.2"]
    assert all(row["max_abs"] <= row["tolerance"] <= 1e-5 and row["cosine"] > 0.999999 for row in rows)
    assert json.loads((out / "parity.json").read_text(encoding="utf-8")) == rows
    assert Path(path) == out / "saved_model"
    report = check.check(Path(path))
    assert report.accepted, [str(finding) for finding in report.findings]
    return Path(path)


def resizes(saved_model: Path) -> int:
    """How many times an image is resized; only the contest's signature does that."""
    functions = read_saved_model(saved_model).meta_graphs[0].graph_def.library.function
    return sum(
        node.op in ("ScaleAndTranslate", "ResizeBilinear") for function in functions for node in function.node_def
    )


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("norm", ["l2", "constant"])
def test_scales_and_mirror_images(norm, members, tmp_path):
    weights = 1, 0.5
    networks = [member_from_saved_model(members / "bilinear", weight) for weight in weights]
    write_saved_model(tmp_path / "e", networks, Combination((0.75, 1.25), flip=True, norm=norm))
    assert batch_inputs(tmp_path / "e") == list(VIEWS)
    assert resizes(tmp_path / "e") == 2
    member = unit(sum(alone(members)))
    expected = np.concatenate([weight * member for weight in weights], axis=1)
    found = call_batch(tmp_path / "e", VIEWS)
    np.testing.assert_allclose(found, unit(expected), rtol=0, atol=1e-6)
    for left_out in range(4):  # each view contributes
        others = unit(sum(view for index, view in enumerate(alone(members)) if index != left_out))
        assert np.abs(others - member).max() > 1e-4


def alone(members: Path) -> list[np.ndarray]:
    """What the member "bilinear" returns for both views and their mirror images; it does not normalise."""
    views = [turned for view in VIEWS.values() for turned in (view, view[:, :, ::-1])]
    return [call_batch(members / "bilinear", {"images_64_bilinear": view}) for view in views]


def test_scales_mirror_images_norm_whitening_and_variables_together(members, tf22_python, tmp_path):
    """A whitening fitted to random descriptors by `retrieval.whitening`; the networks' weights are variables."""
    random = np.random.default_rng(5)
    mixed = random.normal(size=(400, 2 * LENGTH)) @ random.normal(size=(2 * LENGTH, 2 * LENGTH)) / 16
    descriptors = unit(mixed + 0.1).astype(np.float32)
    fitted = fit(Embeddings(tuple(map(str, range(400))), descriptors, {}), 24, shrinkage=0.5)
    write_whitening(tmp_path / "whitening.safetensors", fitted)

    weights = 1, 0.5
    options = ("--scales", 0.75, 1.25, "--flip", "--norm", "l2", "--weights", *weights)
    options += ("--whitening", tmp_path / "whitening.safetensors", "--store", "variables")
    saved_model = made([members / "bilinear"] * 2, tmp_path / "e", *options)
    found = call_batch(saved_model, VIEWS)
    assert found.shape == (2, 24)
    member = unit(sum(alone(members)))
    # It was fitted to unit-norm descriptors, which this ensemble has without it.
    whole = unit(np.concatenate([weight * member for weight in weights], axis=1)).astype(np.float64)
    np.testing.assert_allclose(found, unit((whole - fitted.mean) @ fitted.matrix), rtol=0, atol=2e-6)
    np.testing.assert_allclose(found, fitted.apply(whole), rtol=0, atol=2e-6)
    # No weight of either network is in the graph.
    library = read_saved_model(saved_model).meta_graphs[0].graph_def.library.function
    networks = [function for function in library if FUNCTION in function.signature.name]
    assert len(networks) == 2
    assert all(sum(node.op == "ReadVariableOp" for node in function.node_def) > 20 for function in networks)
    assert saved_model.joinpath("saved_model.pb").stat().st_size < 300_000


def test_no_norm_leaves_each_member_times_its_weight(members, tf22_python, tmp_path):
    """Four members of two networks, with the first place's weights; an image is resized once per resolution."""
    own = {members / "first": "images_64", members / "smaller": "images_48"}
    folders = [members / name for name in ("first", "smaller", "smaller", "first")]
    saved_model = made(folders, tmp_path / "e", "--weights", *WEIGHTS, "--norm", "none")
    assert batch_inputs(saved_model) == ["images_48", "images_64"]
    assert resizes(saved_model) == 2
    batch = {name: probes.pixel_batches(64, seed=3)["b3x64x64"][:, :side, :side] for name, side in SIDES.items()}
    found = call_batch(saved_model, batch)
    assert found.shape == (3, 4 * LENGTH)
    separate = {folder: call_batch(folder, {name: batch[name]}) for folder, name in own.items()}
    for index, (folder, weight) in enumerate(zip(folders, WEIGHTS, strict=True)):
        part = found[:, index * LENGTH : (index + 1) * LENGTH]
        np.testing.assert_array_equal(part, separate[folder] * np.float32(weight), err_msg=f"member {index}")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(WEIGHTS), rtol=0, atol=1e-5)


def test_one_resize_a_resolution(members, tmp_path):
    """Equal sizes share one resize, scaled ones included: 64 × 0.75 is the smaller member's 48, and 48 × 0.75 is 36."""
    networks = [member_from_saved_model(members / name) for name in ("first", "second", "smaller", "bilinear")]
    for scales, expected in (((1.0,), 3), ((1.0, 0.75), 5), ((1.0, 1.001), 3)):
        folder = tmp_path / f"{len(scales)}_{expected}"
        write_saved_model(folder, networks, Combination(scales))
        assert resizes(folder) == expected == len(batch_inputs(folder))


def test_a_constant_changes_no_ranking(members, tmp_path):
    """By default the concatenation has unit norm, by one division that is the same for all images."""
    networks = [member_from_saved_model(members / name, weight) for name, weight in (("first", 1), ("second", 0.55))]
    folder = tmp_path / "e"
    write_saved_model(folder, networks, Combination())
    found = call_batch(folder, PIXELS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-6)
    parts = [weight * call_batch(members / name, PIXELS) for name, weight in (("first", 1), ("second", 0.55))]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1) / np.hypot(1, 0.55), rtol=0, atol=1e-7)


def test_a_static_member_is_served_at_its_own_size_alone(members, tmp_path):
    with pytest.raises(ExportError, match="resnet18_small takes only images of 64 px.*at 96. .*without --static"):
        ensemble([members / "static"], [1.0], tmp_path / "e", Combination(scales=(1.0, 1.5)))
    assert list(tmp_path.iterdir()) == [], "a partial folder was left behind"
    networks = [member_from_saved_model(members / name) for name in ("static", "second")]
    write_saved_model(tmp_path / "e", networks, Combination(flip=True))
    views = [
        call_batch(members / "static", {"images_64": view})
        for view in (PIXELS["images_64"], PIXELS["images_64"][:, :, ::-1])
    ]
    expected = unit(sum(views)) / np.sqrt(2)
    np.testing.assert_allclose(call_batch(tmp_path / "e", PIXELS)[:, :LENGTH], expected, rtol=0, atol=1e-6)


def test_a_whitening_of_another_length_is_refused(members, tmp_path):
    whitening = Whitening(np.zeros(LENGTH, np.float32), np.eye(LENGTH, dtype=np.float32))
    with pytest.raises(ExportError, match=f"descriptors of {LENGTH} numbers, and these have {2 * LENGTH}"):
        ensemble([members / "first", members / "second"], [1.0, 1.0], tmp_path / "e", Combination(whitening=whitening))
    assert list(tmp_path.iterdir()) == [], "a partial folder was left behind"
    one = NumpyArrays.unit(np.ones((1, LENGTH), np.float32))
    np.testing.assert_allclose(Combination(whitening=whitening).combine([one], [2.0], NumpyArrays), one, atol=1e-6)


@pytest.mark.parametrize("scales", [(0,), (1, -0.5)])
def test_scales_that_are_no_factors_are_refused(scales, members, tmp_path):
    done = command("--members", members / "first", "--out", tmp_path / "e", "--scales", *scales)
    assert done.returncode == 2
    assert "argument --scales: expected " in done.stderr
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], []])
def test_weights_that_do_not_fit_are_refused(weights, members, tmp_path):
    with pytest.raises(ExportError, match="expected one positive weight for each of 2 members"):
        ensemble([members / "first", members / "second"], weights, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_an_ensemble_is_no_member(members, tmp_path):
    networks = [member_from_saved_model(members / name) for name in ("first", "second")]
    write_saved_model(tmp_path / "e", networks, Combination())
    sources = [require_manifest(members / name).sources[0] for name in ("first", "second")]
    write_manifest(tmp_path / "e", Manifest(sources))
    with pytest.raises(ExportError, match="expected a member of one network.*found 2 networks"):
        ensemble([tmp_path / "e", members / "first"], [1.0, 1.0], tmp_path / "other")
