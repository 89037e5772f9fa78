"""Somebody else's ONNX file becomes one of this project's, or is refused with what to do (`export.from_onnx`)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import onnx_runtime
from export.embedder import OnnxDescriber
from export.from_onnx import from_onnx
from export.onnx_metadata import source_of
from export.parity.probes import picture
from export.storage import BY_SIZE
from tests.export.foreign_networks import CONV, FLAT, IMAGES, POOL, RANDOM, WEIGHTS, node, written
from zoo.errors import CheckpointError, ExportError, SpecError
from zoo.preprocess import normalise
from zoo.specs import ImportedSpec, PreprocessSpec

SPEC = PreprocessSpec(size=32, mean=(0.5, 0.4, 0.3), channels="bgr")


def inputs_of(images: onnx.ModelProto) -> list:
    [value] = images.graph.input
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def pictures(count: int) -> np.ndarray:
    random = np.random.default_rng(2)
    return normalise(np.stack([picture(random, SPEC.size, SPEC.size) for _ in range(count)]), SPEC)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.reshape(len(rows), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def outputs(model: onnx.ModelProto | Path, images: np.ndarray) -> np.ndarray:
    return onnx_runtime.run(onnx_runtime.session(model), images)[0]


NETWORKS: dict[str, dict[str, Any]] = {
    "a vector": {"nodes": [CONV, POOL, FLAT]},
    "a map of one pixel": {"nodes": [CONV, POOL], "outputs": ("pooled",)},
    "channels last at the end": {
        "nodes": [CONV, POOL, node("Transpose", ["pooled"], ["vector"], perm=[0, 2, 3, 1])],
    },
    "names that the project has": {
        "nodes": [
            helper.make_node("Conv", ["descriptor", "w"], ["images"]),
            helper.make_node("GlobalMaxPool", ["images"], ["descriptor/raw"]),
        ],
        "inputs": (("descriptor", *IMAGES[1:]),),
        "outputs": ("descriptor/raw",),
    },
    "weights among the inputs": {
        "nodes": [CONV, POOL, FLAT],
        "inputs": (IMAGES, ("w", TensorProto.FLOAT, (4, 3, 3, 3))),
    },
    "opset 9": {
        "nodes": [CONV, node("Upsample", ["map", "twice"], ["large"], mode="nearest"), POOL, FLAT],
        "weights": WEIGHTS | {"twice": np.array([1, 1, 2, 2], np.float32)},
        "opset": 9,
    },
    "a fixed size": {"nodes": [CONV, POOL, FLAT], "inputs": ((*IMAGES[:2], (1, 3, 32, 32)),)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_the_file_computes_at_any_batch(name, tmp_path):
    path = written(tmp_path / "given.onnx", **NETWORKS[name])
    made, images = from_onnx(path, SPEC, "mine"), pictures(3)
    assert inputs_of(made) == ["N", 3, 32, 32]
    found = outputs(made, images)
    np.testing.assert_allclose(found, unit(outputs(path, images)), rtol=0, atol=1e-6)
    assert np.ptp(found, axis=0).min() > 1e-4  # the images differ, and so do their descriptors
    source = source_of(made, path, BY_SIZE)
    assert source.spec == ImportedSpec("mine", SPEC, 4)
    assert source.exported_from == "onnx" and source.versions["some tool 2"] == "unknown"


def test_what_was_made_may_be_given_again(tmp_path):
    path, images = written(tmp_path / "given.onnx", [CONV, POOL, FLAT]), pictures(2)
    made = from_onnx(path, SPEC, "mine")
    for number in range(2):
        onnx.save(made, tmp_path / f"{number}.onnx")
        made = from_onnx(tmp_path / f"{number}.onnx", SPEC, "again")
    np.testing.assert_allclose(outputs(made, images), unit(outputs(path, images)), rtol=0, atol=1e-6)


def test_what_tells_about_somebodys_machine_is_gone(tmp_path):
    made = from_onnx(written(tmp_path / "given.onnx", [CONV, POOL, FLAT]), SPEC, "mine")
    assert b"/home/somebody" not in made.SerializeToString()


def test_a_file_whose_graph_says_one_image_takes_them_one_at_a_time(tmp_path):
    reshape = node("Reshape", ["pooled", "shape"], ["vector"])
    path = written(
        tmp_path / "given.onnx",
        [CONV, POOL, reshape, node("Gemm", ["vector", "m"], ["descriptor"])],
        outputs=("descriptor",),
        weights=WEIGHTS | {"shape": np.array([1, -1]), "m": RANDOM.normal(size=(4, 8)).astype(np.float32)},
    )
    made = from_onnx(path, SPEC, "mine")
    assert inputs_of(made) == [1, 3, 32, 32]
    onnx.save(made, tmp_path / "made.onnx")
    describer, pixels = OnnxDescriber(tmp_path / "made.onnx"), RANDOM.uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    expected = [unit(outputs(path, normalise(image[None], SPEC))) for image in pixels]
    np.testing.assert_allclose(describer({describer.inputs[0]: pixels}), np.concatenate(expected), rtol=0, atol=1e-6)


def test_any_tensor_is_the_descriptor_if_it_is_chosen(tmp_path):
    logits = node("MatMul", ["vector", "m"], ["logits"])
    weights = WEIGHTS | {"m": RANDOM.normal(size=(4, 7)).astype(np.float32)}
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT, logits], outputs=("logits",), weights=weights)
    headless, whole = from_onnx(path, SPEC, "mine", "vector"), from_onnx(path, SPEC, "mine")
    alone = written(tmp_path / "headless.onnx", [CONV, POOL, FLAT])
    np.testing.assert_allclose(outputs(headless, pictures(2)), unit(outputs(alone, pictures(2))), rtol=0, atol=1e-6)
    assert "m" not in {tensor.name for tensor in headless.graph.initializer}
    prints = [source_of(model, path, BY_SIZE).checkpoint_sha256 for model in (headless, whole)]
    assert prints[0] != prints[1]


def test_the_fingerprint_is_of_the_weights_and_of_how_images_are_prepared(tmp_path):
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT])
    other = written(tmp_path / "other.onnx", [CONV, POOL, FLAT], weights=WEIGHTS | {"w": WEIGHTS["w"] * 1.001})
    made = [from_onnx(path, SPEC, "mine"), from_onnx(path, PreprocessSpec(32), "mine"), from_onnx(other, SPEC, "mine")]
    assert len({source_of(model, path, BY_SIZE).checkpoint_sha256 for model in made}) == 3
    again = from_onnx(path, SPEC, "mine")
    assert again.SerializeToString(deterministic=True) == made[0].SerializeToString(deterministic=True)


def test_inputs_of_what_is_left_out_do_not_matter(tmp_path):
    loss = node("Sub", ["vector", "labels"], ["loss"])
    labels = ("labels", TensorProto.FLOAT, ("batch", 4))
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT, loss], inputs=(IMAGES, labels), outputs=("loss",))
    assert inputs_of(from_onnx(path, SPEC, "mine", "vector")) == ["N", 3, 32, 32]


def test_the_versions_of_the_project_are_its_own(tmp_path):
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT])
    model = onnx.load(path)
    model.producer_name, model.producer_version = "onnx", "0.1"
    onnx.save(model, path)
    assert source_of(from_onnx(path, SPEC, "mine"), path, BY_SIZE).versions["onnx"] == onnx.__version__


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "channels last": (
        {
            "nodes": [node("Transpose", [IMAGES[0]], ["t"], perm=[0, 3, 1, 2]), node("Conv", ["t", "w"], ["vector"])],
            "inputs": ((*IMAGES[:2], ("n", 32, 32, 3)),),
        },
        r"found 'images of anything' float \[\?, 32, 32, 3\]. Its channels are last.*--inputs-as-nchw",
    ),
    "one channel": (
        {"nodes": [CONV, POOL, FLAT], "inputs": ((*IMAGES[:2], ("n", 1, 32, 32)),), "weights": {"w": WEIGHTS["w"][:, :1]}},
        "images with three channels",
    ),
    "pixels as bytes": (
        {"nodes": [node("Cast", [IMAGES[0]], ["f"], to=1), node("Conv", ["f", "w"], ["vector"])],
         "inputs": ((IMAGES[0], TensorProto.UINT8, IMAGES[2]),)},
        "uint8.*in float32",
    ),
    "another size": ({"nodes": [CONV, POOL, FLAT], "inputs": ((*IMAGES[:2], (1, 3, 64, 64)),)}, "64 × 64 px.*--size"),
    "a batch of 8": ({"nodes": [CONV, POOL, FLAT], "inputs": ((*IMAGES[:2], (8, 3, 32, 32)),)}, "batch of 1"),
    "two inputs": (
        {"nodes": [CONV, node("Add", ["map", "more"], ["vector"])], "inputs": (IMAGES, ("more", TensorProto.FLOAT, (1,)))},
        r"expected one input.*'more' float \[1\]",
    ),
    "two outputs": ({"nodes": [CONV, POOL, FLAT], "outputs": ("map", "vector")}, "'map'.*'vector'.*--output"),
    "a map": ({"nodes": [CONV], "outputs": ("map",)}, r"found \[1, 4, 30, 30\].*global pooling.*--output"),
    "a number": ({"nodes": [CONV, POOL, FLAT, node("ReduceMean", ["vector"], ["mean"], axes=[1])], "outputs": ("mean",)},
                 r"found \[1, 1\]"),
    "integers": ({"nodes": [CONV, POOL, FLAT, node("Cast", ["vector"], ["i"], to=7)], "outputs": ("i",)}, "int64|Type"),
    "only zeros": ({"nodes": [CONV, POOL, node("Sub", ["pooled", "pooled"], ["vector"])]}, "only zeros"),
    "infinity": ({"nodes": [CONV, POOL, node("Div", ["one", "zero"], ["b"]), node("Mul", ["pooled", "b"], ["vector"])],
                  "weights": WEIGHTS | {"zero": np.zeros(1, np.float32)}}, "not finite"),
    "weights that are not a number": (
        {"nodes": [CONV, POOL, FLAT], "weights": {"w": np.full((4, 3, 3, 3), np.nan, np.float32)}}, "'w' has values that are NaN",
    ),
    "an output that does not depend on the images": (
        {"nodes": [CONV, node("Exp", ["one"], ["vector"])]}, "does not depend on the input",
    ),
    "random numbers": (
        {"nodes": [CONV, node("RandomNormalLike", ["map"], ["noise"], seed=1.0), node("Mul", ["map", "noise"], ["noisy"]),
                   node("GlobalAveragePool", ["noisy"], ["vector"])]},
        r"differs from run to run, by the node 'my RandomNormalLike' \(RandomNormalLike\).*evaluation mode",
    ),
    "too small an image": (
        {"nodes": [CONV, node("Conv", ["map", "v"], ["vector"])], "weights": WEIGHTS | {"v": np.ones((4, 4, 33, 33), np.float32)}},
        r"'my Conv' \(Conv\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_what_to_do(name, tmp_path):
    given, message = REFUSED[name]
    path = written(tmp_path / "given.onnx", **given)
    with pytest.raises(ExportError, match=message) as raised:
        from_onnx(path, SPEC, "mine")
    assert str(path) in str(raised.value)


def test_options_that_cannot_be_are_refused(tmp_path):
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT])
    with pytest.raises(ExportError, match="no node computes a tensor 'vectors'. Did you mean 'vector'?"):
        from_onnx(path, SPEC, "mine", "vectors")
    with pytest.raises(SpecError, match="letters, digits"):
        from_onnx(path, SPEC, "not | mine")
    with pytest.raises(CheckpointError, match="divide by 255"):
        from_onnx(path, PreprocessSpec(32, mean=(124.0, 116.0, 104.0)), "mine")
