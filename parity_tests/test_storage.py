"""How a SavedModel stores its network does not change what it computes: constants, variables, float16, one size."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import check, tf22
from export.embedder import call_batch
from export.normal_form.half import rounded_to_half
from export.parity import probes
from export.parity.everywhere import Served, read_calls, run_onnx, write_calls
from export.saved_model_file import read_saved_model
from export.storage import Storage
from export.writer import save as assemble
from export.writer.convert import save_normal_form
from export.writer.graph import tensorflow_graph
from export.writer.member import FUNCTION, member_from_saved_model
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import FAMILIES, SMALL_SPECS, in_normal_form, small
from zoo.checkpoint import save_checkpoint
from zoo.errors import ExportError
from zoo.signature import BATCH_SIGNATURE, batch_input
from zoo.tolerances import TOLERANCES, compare

ROOT = Path(__file__).resolve().parents[1]
NAME = FAMILIES["resnet26"]
SPEC = SMALL_SPECS[NAME].preprocess
WAYS = {
    "constants": {"weights": "constants"},
    "variables": {"weights": "variables"},
    "half": {"half": True},
    "half_variables": {"half": True, "weights": "variables"},
    "static": {"static": True},
}
"""{SavedModel: options of `save_normal_form`}."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with one normal form and its SavedModels."""
    folder = tmp_path_factory.mktemp("stored")
    onnx.save(in_normal_form(NAME, "torch"), folder / "normal_form.onnx")
    for way, options in WAYS.items():
        save_normal_form(folder / "normal_form.onnx", folder / way, Storage(**options))
    return folder


def batches(static: bool = False) -> dict[str, np.ndarray]:
    """Pixels by name; only those of the spec's size if the SavedModel takes no other."""
    every = probes.pixel_batches(SPEC.size) | probes.resized_images(SPEC)
    own = (SPEC.size, SPEC.size)
    return {name: pixels for name, pixels in every.items() if not static or pixels.shape[1:3] == own}


def served(folder: Path, ways: list[str], python: Path, work: Path) -> dict[str, Served]:
    """Descriptors of batches and images from each SavedModel, all in one process."""
    calls = []
    for way in ways:
        (work / way).mkdir()
        named = {name: {batch_input(SPEC.size): pixels} for name, pixels in batches(way == "static").items()}
        calls += write_calls(folder / way, named, probes.images(SPEC.size), work / way)
    tf22.run_calls(calls, python=python)
    return {way: read_calls(work / way) for way in ways}


@pytest.fixture(scope="module")
def in_tf22(made, tf22_python, tmp_path_factory) -> dict[str, Served]:
    return served(made, list(WAYS), tf22_python, tmp_path_factory.mktemp("tf22"))


@pytest.fixture(scope="module")
def today(made, tmp_path_factory) -> dict[str, Served]:
    return served(made, list(WAYS), Path(sys.executable), tmp_path_factory.mktemp("today"))


def has_variables(saved_model: Path) -> bool:
    """Whether its network reads any."""
    functions = read_saved_model(saved_model).meta_graphs[0].graph_def.library.function
    (function,) = [function for function in functions if FUNCTION in function.signature.name]
    return any(node.op == "ReadVariableOp" for node in function.node_def)


def together(found: Served) -> dict[str, np.ndarray]:
    named, images = found
    return {f"batch {name}": value for name, value in named.items()} | images


@pytest.mark.parametrize(("one", "other"), [("constants", "variables"), ("half", "half_variables")])
def test_variables_and_constants_give_the_same_bits_in_tensorflow_22(one, other, in_tf22):
    first, second = together(in_tf22[one]), together(in_tf22[other])
    assert list(first) == list(second)
    assert len(first) > 10
    for name, value in first.items():
        assert 0.01 < np.abs(value).max() <= 1
        np.testing.assert_array_equal(second[name], value, err_msg=name)


@pytest.mark.parametrize(("one", "other"), [("constants", "variables"), ("half", "half_variables")])
def test_variables_and_constants_agree_today(one, other, today):
    # With constants oneDNN keeps weights in its own layout, which sums in another order.
    first, second = together(today[one]), together(today[other])
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_all_ways_have_the_same_weights(made):
    """Weights read back from a SavedModel equal the normal form's, bit for bit."""
    expected = tensorflow_graph(onnx.load(made / "normal_form.onnx"), SPEC)
    for way in ("constants", "variables", "static"):
        network = member_from_saved_model(made / way)
        assert (network.name, network.input, network.weight) == (f"{NAME}_small", batch_input(SPEC.size), 1.0)
        assert network.shape == ((None, SPEC.size, SPEC.size, 3) if way == "static" else (None, None, None, 3))
        assert network.graph.outputs == expected.outputs
        assert network.graph.weights.keys() == expected.weights.keys()
        for name, array in expected.weights.items():
            found = network.graph.weights[name]
            assert found.dtype == array.dtype, name
            np.testing.assert_array_equal(found, array, err_msg=f"{way}: {name}")
    operators = [
        sorted((node.name, node.op) for node in member_from_saved_model(made / way).graph.graph_def.node)
        for way in ("constants", "variables")
    ]
    assert operators[0] == operators[1]
    assert operators[0] == sorted((node.name, node.op) for node in expected.graph_def.node)


def test_half_precision_is_half_the_file(made):
    for whole, half in (("constants", "half"), ("variables", "half_variables")):
        sizes = [
            sum(path.stat().st_size for path in (made / way).rglob("*") if path.is_file()) for way in (whole, half)
        ]
        weights = member_from_saved_model(made / whole).weight_bytes
        assert weights > 0.5 * sizes[0], "the network is too small for a comparison"
        # 1 % of the weights are biases, which stay float32; each weight needs an additional Cast node.
        assert 0.45 * weights < sizes[0] - sizes[1] < 0.5 * weights


def test_half_precision_is_the_rounded_normal_form_exactly(made, today, in_tf22):
    model = onnx.load(made / "normal_form.onnx")
    rounded = rounded_to_half(model)
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
    kernels = {node.input[1] for node in rounded.graph.node if node.op_type == "Conv"}
    for tensor in model.graph.initializer:
        original = onnx.numpy_helper.to_array(tensor)
        if tensor.name in kernels:
            np.testing.assert_array_equal(values[tensor.name], original.astype(np.float16).astype(np.float32))
        else:
            np.testing.assert_array_equal(values[tensor.name], original)
    expected = tensorflow_graph(rounded, SPEC).weights
    for way in ("half", "half_variables"):
        found = member_from_saved_model(made / way).graph.weights
        assert len(found) == len(expected)
        for name, array in expected.items():
            stored = found[f"{name}/float16" if array.ndim == 4 else name]
            assert stored.dtype == (np.float16 if array.ndim == 4 else np.float32)
            np.testing.assert_array_equal(stored.astype(np.float32), array)
    own = {name: pixels for name, pixels in batches().items() if name.startswith("b")}
    exact, before = run_onnx(rounded, own, SPEC), run_onnx(model, own, SPEC)
    for place in (today, in_tf22):
        for name, value in exact.items():
            assert compare(value, place["half"][0][name]).within(TOLERANCES["normal form → savedmodel"]), name
    # The rounding is measurable; otherwise nothing above could fail.
    assert max(compare(before[name], value).max_abs for name, value in exact.items()) > 5e-5


def test_weights_beyond_float16_are_refused(made):
    model = onnx.load(made / "normal_form.onnx")
    name = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[5] = 65520.0  # rounds to infinity
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    with pytest.raises(ExportError, match=f"{name}' has weights beyond float16"):
        rounded_to_half(model)


def test_the_checker_accepts_all_ways(made):
    for way in WAYS:
        report = check.check(made / way)
        assert report.accepted, (way, [str(finding) for finding in report.findings])


def test_a_static_one_serves_images_of_any_size_and_batches_of_one(made, today, in_tf22, tf22_python, tmp_path):
    for place, tolerance in ((today, 1e-6), (in_tf22, 1e-6)):
        (batched, images), (all_batches, expected) = place["static"], place["constants"]
        assert images.keys() == expected.keys() == probes.images(SPEC.size).keys()
        assert 2 < len(batched) < len(all_batches)
        for name, value in images.items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance, err_msg=name)
        for name, value in batched.items():
            np.testing.assert_allclose(value, all_batches[name], rtol=0, atol=tolerance, err_msg=name)
    wider = np.zeros((1, SPEC.size, SPEC.size + 1, 3), np.float32)
    with pytest.raises(ExportError, match=r"65, *3"):
        call_batch(made / "static", {batch_input(SPEC.size): wider})
    np.savez(tmp_path / "in.npz", **{f"wider/{batch_input(SPEC.size)}": wider})
    paths = {"inputs": tmp_path / "in.npz", "outputs": tmp_path / "out.npz"}
    with pytest.raises(ExportError, match=r"65, *3"):
        tf22.run_calls([{"saved_model": made / "static", "signature": BATCH_SIGNATURE, **paths}], python=tf22_python)
    assert not (tmp_path / "out.npz").exists()


def test_constants_that_do_not_fit_are_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "_LARGEST_FILE", 10_000)
    with pytest.raises(ExportError, match="[0-9,]{7,} bytes of weights do not fit.*store them as variables"):
        save_normal_form(made / "normal_form.onnx", tmp_path / "constants", Storage(weights="constants"))
    assert list(tmp_path.iterdir()) == [], "a partial folder was left behind"
    save_normal_form(made / "normal_form.onnx", tmp_path / "variables", Storage(weights="variables"))
    assert has_variables(tmp_path / "variables")


def test_large_networks_are_stored_as_variables_by_default(made, tmp_path, monkeypatch):
    size = member_from_saved_model(made / "constants").weight_bytes
    for limit, variables in ((size, False), (size - 1, True)):
        monkeypatch.setattr(assemble, "MOST_CONSTANT_BYTES", limit)
        save_normal_form(made / "normal_form.onnx", tmp_path / str(limit))
        assert has_variables(tmp_path / str(limit)) == variables
    monkeypatch.setattr(assemble, "MOST_CONSTANT_BYTES", 0)
    save_normal_form(made / "normal_form.onnx", tmp_path / "asked", Storage(weights="constants"))
    assert not has_variables(tmp_path / "asked")


def test_missing_variables_are_said(made, tmp_path):
    for missing in ("variables", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        folder = tmp_path / missing.replace("/", "_")
        shutil.copytree(made / "variables", folder)
        path = folder / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(ExportError, match="do not hold the weights that .*Copy the whole folder"):
            member_from_saved_model(folder)


def test_a_file_that_is_cut_off_is_said(made, tmp_path):
    whole = (made / "constants" / "saved_model.pb").read_bytes()
    for kept in (0, 1, 2, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "saved_model.pb").write_bytes(whole[:kept])
        with pytest.raises(ExportError, match="is not a SavedModel.*to_savedmodel.py"):
            member_from_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").unlink()
    with pytest.raises(ExportError, match="holds no saved_model.pb.*to_savedmodel.py"):
        member_from_saved_model(tmp_path)


ALL_STEPS = """
import runpy, sys
for words in (line.split("\\t") for line in sys.argv[1:]):
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__")
"""


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_the_same_checkpoint_gives_the_same_bytes(framework, tmp_path):
    """Once with one process per step and once in a single process, whose string hashes differ."""
    ckpt = tmp_path / "model.safetensors"
    save_checkpoint(ckpt, random_checkpoint(small("resnest50"), seed=5, framework=framework))

    def export(seed: int) -> dict[str, bytes]:
        folder = tmp_path / str(seed)
        names = ("model.onnx", "normal_form.onnx", "saved_model/saved_model.pb")
        files = model, normal, saved_model = [folder / name for name in names]
        steps = [
            [str(word) for word in words]
            for words in (
                ("export.to_onnx", "--ckpt", ckpt, "--out", model),
                ("export.normal_form", "--onnx", model, "--out", normal),
                ("export.writer", "--onnx", normal, "--out", saved_model.parent),
            )
        ]
        apart = [["-m", *words] for words in steps]
        for words in apart if seed == 1 else [["-c", ALL_STEPS, *map("\t".join, steps)]]:
            environment = os.environ | {"PYTHONHASHSEED": str(seed)}
            command = [sys.executable, *words]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
        return {file.name: file.read_bytes() for file in files}

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(export, (1, 2))
    assert {name: content == second[name] for name, content in first.items()} == dict.fromkeys(first, True)
