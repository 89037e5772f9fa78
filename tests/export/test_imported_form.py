"""Operators of networks from elsewhere: each in a small file, rewritten, and run in ONNX Runtime and in TensorFlow."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from export import onnx_runtime
from export.normal_form import imported
from export.normal_form.imported import imported_form
from export.normal_form.proven import on_graph
from export.parity.probes import picture
from export.writer.graph import PIXELS, NetworkGraph, tensorflow_graph, tf
from tests.export.foreign_operators import CASES, SIZE, file_of
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

SPEC = PreprocessSpec(size=SIZE)
TOLERANCE = 2e-6
"""Of the largest entry of a result; at most 4e-7 was measured."""


def in_tensorflow(network: NetworkGraph, pixels: np.ndarray) -> np.ndarray:
    """The network's output of pixels [N, H, W, 3]."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(network.graph_def, name="")
        given = {f"{name}:0": array for name, array in network.weights.items()}
        return session.run(network.outputs[0], {f"{PIXELS}:0": pixels, **given})


def pictures(count: int) -> np.ndarray:
    random = np.random.default_rng(4)
    return np.stack([picture(random, SIZE, SIZE) for _ in range(count)])


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_the_same_in_tensorflow(name):
    require_the_same(file_of(*CASES[name]))


def require_the_same(model: onnx.ModelProto) -> None:
    """Fails unless TensorFlow computes what ONNX Runtime computes."""
    pixels = pictures(2)
    expected = onnx_runtime.run(onnx_runtime.session(model), normalise(pixels, SPEC))[0]
    network = tensorflow_graph(imported_form(model, SPEC), SPEC, (None, SIZE, SIZE, 3))
    found = in_tensorflow(network, pixels)
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


OF_ONE = {
    "sizes that the graph computes": (
        "a = GlobalAveragePool(x) r = Reshape(a, flat) g = Gemm(r, w) j = Sigmoid(g) k = Reshape(j, maps) m = Mul(x, k) "
        "p = Shape(m) q = Gather(p, first) u = Concat<axis=0>(q, rest) y = Reshape(m, u)",
        {"w": (3, 3), "flat": [1, 3], "maps": [1, 3, 1, 1], "first": [0], "rest": [-1]},
    ),
    "channels behind a part whose end the graph computes": (
        "k = Shape(x) l = Gather(k, two) e = Div(l, half) p = Slice(x, first, e, axis) r = Reshape(p, s) "
        "t = Transpose<perm=[0,2,1,3,4]>(r) y = Reshape(t, q)",
        {"two": [2], "half": [2], "first": [0], "axis": [2], "s": [1, 3, 4, 3, 3], "q": [1, 12, 3, 3]},
    ),
    "channels shuffled twice": (
        "c = Conv(x, w) r = Reshape(c, s) t = Transpose<perm=[0,2,1,3,4]>(r) u = Reshape(t, q) d = Relu(u) "
        "e = Reshape(d, s) f = Transpose<perm=[0,2,1,3,4]>(e) y = Reshape(f, q)",
        {"w": (6, 3, 1, 1), "s": [1, 2, 3, 9, 9], "q": [1, 6, 9, 9]},
    ),
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_file_for_batches_of_one_takes_any_batch(name):
    model, pixels = file_of(*OF_ONE[name], batch="1"), pictures(4)
    running = onnx_runtime.session(model)
    expected = np.concatenate([onnx_runtime.run(running, normalise(image[None], SPEC))[0] for image in pixels])
    network = tensorflow_graph(imported_form(model, SPEC), SPEC, (None, SIZE, SIZE, 3))
    np.testing.assert_allclose(
        in_tensorflow(network, pixels), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    ("nodes", "constants", "says"),
    [
        ("y = Hardmax(x)", {}, "Hardmax at 'Hardmax'"),
        ("a = ReduceMax<axes=[0,1,2,3], keepdims=0>(x) y = Clip(x, , a)", {}, "Clip at 'Clip' .*needs a constant"),
        ('y = Resize<mode="linear">(x, , s)', {"s": [1.0, 1.0, 1.3, 1.0]}, "Resize at 'Resize' .*whole size"),
        ("y = ReduceSum<noop_with_empty_axes=1>(x)", {}, "ReduceSum at 'ReduceSum' reduces no axis"),
        ("y = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x)", {}, "MaxPool at 'MaxPool' has a dilation"),
        ("c = Conv(x, w) y = Conv(x, c)", {"w": (3, 3, 1, 1)}, "Conv at 'Conv_2'"),
        ('y = Pad<mode="reflect">(x, p)', {"p": [0, 0, -1, 0, 0, 0, 0, 0]}, "Pad at 'Pad' .*cuts"),
        ('y = Pad<mode="edge">(x, p)', {"p": [1, 0, 0, 0, 0, 0, 0, 0]}, "Pad at 'Pad' repeats axis 0"),
        ("y = ConvTranspose(x, w)", {"w": (3, 2, 2, 2)}, "ConvTranspose at 'ConvTranspose' .*no such operator"),
        ('y = Einsum<equation="nchw,ndhw->ncd">(x, x)', {}, "Einsum at 'Einsum' .*no such operator"),
        ('y = Resize<mode="cubic">(x, , s)', {"s": [1.0, 1.0, 2.0, 2.0]}, "Resize at 'Resize' .*cubic"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_reason(nodes, constants, says):
    with pytest.raises(ExportError, match=says):
        tensorflow_graph(imported_form(file_of(nodes, constants), SPEC), SPEC, (None, SIZE, SIZE, 3))


def test_what_grows_with_the_batch_is_not_computed():
    """A Range of 36 million numbers is refused; a map of ones stays an operator."""
    per_image = {"i": 0, "zero": 0, "one": 1, "many": 9000}
    ramp = "s = Shape(x) n = Gather(s, i) m = Mul(n, many) r = Range(zero, m, one) f = Cast<to=1>(r) q = ReduceMax(f) "
    with pytest.raises(ExportError, match=r"\(Range\).*bytes that do not depend on the images"):
        imported_form(file_of(f"{ramp} y = Add(x, q)", per_image), SPEC)
    ones = "s = Shape(x) z = ConstantOfShape<value=float[1] {2.0}>(s) y = Add(x, z)"
    require_the_same(file_of(ones, {}))


def test_a_rewrite_that_changes_the_network_is_found(monkeypatch):
    def halved(graph):
        [node] = [node for node in graph.nodes if node.op == "Mul"]
        node.op = "Sub"

    monkeypatch.setattr(imported, "IMPORTED_REWRITES", (*imported.IMPORTED_REWRITES, on_graph(halved)))
    with pytest.raises(ExportError, match="the rewrite 'halved' changed the network"):
        imported_form(file_of(*CASES["SiLU"]), SPEC)


def test_a_rewrite_whose_network_does_not_run_is_named(monkeypatch):
    def broken(graph):
        [node] = [node for node in graph.nodes if node.op == "Conv"]
        node.inputs[1] = gs.Constant("w", np.ones((4, 5, 1, 1), np.float32))

    monkeypatch.setattr(imported, "IMPORTED_REWRITES", (on_graph(broken),))
    with pytest.raises(ExportError, match="the rewrite 'broken' broke the network: ONNX Runtime refuses"):
        imported_form(file_of(*CASES["dilated"]), SPEC)


def operators(name: str) -> list[str]:
    network = tensorflow_graph(imported_form(file_of(*CASES[name]), SPEC), SPEC, (None, SIZE, SIZE, 3))
    return [node.op for node in network.graph_def.node]


@pytest.mark.parametrize(
    "name",
    [
        "LayerNorm over channels",
        "linear layer on maps",
        "squeeze and excitation through vectors",
        "L2 over channels",
        "GroupNorm",
    ],
)
def test_channels_first_costs_no_transpose(name):
    """The only one is the final Flatten's, which the test adds."""
    assert operators(name).count("Transpose") == 1


def test_a_hard_sigmoid_behind_a_convolution_is_one_relu6():
    found = operators("hard sigmoid behind a convolution")
    assert "Relu6" in found and "AddV2" not in found


def test_a_scale_behind_a_convolution_is_absorbed():
    assert "Mul" not in operators("a scale behind a convolution")
