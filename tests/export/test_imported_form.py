"""Operators of networks from elsewhere: each in a small file, rewritten, and run in ONNX Runtime and in TensorFlow."""

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from export import onnx_runtime
from export.normal_form import imported
from export.normal_form.imported import imported_form
from export.normal_form.proven import on_graph
from export.parity.probes import picture
from export.writer.graph import PIXELS, NetworkGraph, tensorflow_graph, tf
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

SIZE = 9
SPEC = PreprocessSpec(size=SIZE)
TOLERANCE = 2e-6
"""Of the largest entry of a result; at most 4e-7 was measured."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (nodes from x [N, 3, 9, 9] to y, constants; a tuple is the shape of random weights)
    "depthwise": ("y = Conv<group=3, pads=[1,1,1,1]>(x, w)", {"w": (3, 1, 3, 3)}),
    "depthwise of stride 2": ("y = Conv<group=3, pads=[1,1,1,1], strides=[2,2]>(x, w, b)", {"w": (3, 1, 3, 3), "b": (3,)}),
    "depthwise with multiples": ("y = Conv<group=3, pads=[2,2,2,2]>(x, w)", {"w": (6, 1, 5, 5)}),
    "depthwise of unequal strides": ("y = Conv<group=3, pads=[1,1,1,1], strides=[2,1]>(x, w)", {"w": (3, 1, 3, 3)}),
    "depthwise dilated": ("y = Conv<group=3, pads=[2,3,2,3], dilations=[2,3]>(x, w)", {"w": (3, 1, 3, 3)}),
    "depthwise padded unevenly": ("y = Conv<group=3, pads=[0,1,2,0], strides=[2,2]>(x, w)", {"w": (3, 1, 3, 3)}),
    "grouped": ("z = Conv(x, v) y = Conv<group=4, pads=[1,1,1,1]>(z, w)", {"v": (16, 3, 1, 1), "w": (8, 4, 3, 3)}),
    "grouped 1×1": ("z = Conv(x, v) y = Conv<group=4>(z, w)", {"v": (16, 3, 1, 1), "w": (8, 4, 1, 1)}),
    "dilated": ("y = Conv<dilations=[2,2], pads=[2,2,2,2]>(x, w)", {"w": (4, 3, 3, 3)}),
    "dilated and padded less": ("y = Conv<dilations=[2,2], pads=[1,1,1,1]>(x, w)", {"w": (4, 3, 3, 3)}),
    "padded unevenly": ("y = Conv<pads=[0,1,2,0], strides=[2,1]>(x, w)", {"w": (4, 3, 3, 2)}),
    "SAME_LOWER": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', {"w": (4, 3, 4, 4)}),
    "over a line": (
        "a = ReduceMean<axes=[2,3]>(x) b = Reshape(a, s) c = Conv<pads=[1,1]>(b, w) "
        "d = Reshape(c, t) y = Mul(x, d)",
        {"w": (1, 1, 3), "s": [0,1,-1], "t": [0,3,1,1]},
    ),
    "BatchNorm alone": ("y = BatchNormalization(x, scale, b, m, variance)", dict.fromkeys(("scale", "b", "m", "variance"), (3,))),
    "BatchNorm of features": (
        "a = GlobalAveragePool(x) f = Flatten(a) y = BatchNormalization(f, scale, b, m, variance)",
        dict.fromkeys(("scale", "b", "m", "variance"), (3,)),
    ),
    "LayerNorm over channels": (
        "t = Transpose<perm=[0,2,3,1]>(x) n = LayerNormalization<epsilon=0.001>(t, s, b) y = Transpose<perm=[0,3,1,2]>(n)",
        {"s": (3,), "b": (3,)},
    ),
    "GroupNorm": (
        "c = Conv(x, w) r = Reshape(c, s) i = InstanceNormalization(r, one, zero) "
        "u = Reshape(i, t) m = Mul(u, g) y = Add(m, h)",
        {"w": (4, 3, 1, 1), "one": (2,), "zero": (2,), "g": (4, 1, 1), "h": (4, 1, 1), "s": [0,2,-1], "t": [-1,4,9,9]},
    ),
    "L2 over channels": ("l = ReduceL2<axes=[1]>(x) y = Div(x, l)", {}),
    "LpNormalization": ("y = LpNormalization<axis=1>(x)", {}),
    "hard sigmoid behind a convolution": ("c = Conv(x, w, b) y = HardSigmoid<alpha=0.16666667>(c)", {"w": (4, 3, 1, 1), "b": (4,)}),
    "hard sigmoid of another slope": ("y = HardSigmoid<alpha=0.3, beta=0.4>(x)", {}),
    "hard swish": ("y = HardSwish(x)", {}),
    "SiLU": ("s = Sigmoid(x) y = Mul(x, s)", {}),
    "GELU": (""
             "q = Div(x, d) e = Erf(q) p = Add(e, o) m = Mul(x, p) y = Mul(m, h)", {"d": 1.4142135, "h": 0.5, "o": 1.0}),
    "PReLU": ("y = PRelu(x, s)", {"s": (3, 1, 1)}),
    "LeakyReLU": ("y = LeakyRelu<alpha=0.1>(x)", {}),
    "ELU": ("a = Elu(x) y = Elu<alpha=0.7>(a)", {}),
    "Mish": ("p = Softplus(x) t = Tanh(p) y = Mul(x, t)", {}),
    "ReLU6": ("y = Clip(x, lo, hi)", {"lo": 0.0, "hi": 6.0}),
    "clipped above": ("y = Clip(x, , hi)", {"hi": 0.5}),
    "linear layer on maps": (
        "t = Transpose<perm=[0,2,3,1]>(x) m = MatMul(t, w) n = Add(m, b) y = Transpose<perm=[0,3,1,2]>(n)",
        {"w": (3, 5), "b": (5,)},
    ),
    "linear layer on a sequence": (
        "r = Reshape(x, s) t = Transpose<perm=[0,2,1]>(r) m = MatMul(t, w) y = Add(b, m)",
        {"w": (3, 5), "b": (5,), "s": [0,3,81]},
    ),
    "Flatten and Gemm": ("f = Flatten(x) y = Gemm<transB=1, alpha=0.5, beta=2.0>(f, w, b)", {"w": (5, 243), "b": (5,)}),
    "channels shuffled": (
        "c = Conv(x, w) r = Reshape(c, s) t = Transpose<perm=[0,2,1,3,4]>(r) "
        "y = Reshape(t, u)",
        {"w": (6, 3, 1, 1), "s": [0,2,3,9,9], "u": [0,6,9,9]},
    ),
    "squeeze and excitation through vectors": (
        "a = GlobalAveragePool(x) f = Flatten(a) g = Gemm(f, v) h = Relu(g) i = Gemm(h, w) j = Sigmoid(i) "
        "k = Reshape(j, s) y = Mul(x, k)",
        {"v": (3, 2), "w": (2, 3), "s": [0,3,1,1]},
    ),
    "a scale behind a convolution": ("c = Conv(x, w) y = Mul(s, c)", {"w": (4, 3, 1, 1), "s": (1, 4, 1, 1)}),
    "a number minus a convolution": ("c = Conv(x, w) y = Sub(o, c)", {"w": (4, 3, 1, 1), "o": 1.0}),
    "average pooling, padding not counted": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", {}),
    "average pooling, padding counted": (
        "y = AveragePool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1], count_include_pad=1>(x)", {},
    ),
    "average pooling, rounded up": ("y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pooling, SAME": ('y = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER">(x)', {}),
    "max pooling, rounded up": ("y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    "max pooling, padded": ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1>(x)", {}),
    "adaptive pooling to 3": ("y = AveragePool<kernel_shape=[3,3], strides=[3,3]>(x)", {}),
    "global max pooling": ("y = GlobalMaxPool(x)", {}),
    "a part of the axes reduced": ("a = ReduceMax<axes=[-1], keepdims=0>(x) y = ReduceSum(a, axes)", {"axes": [-2]}),
    "sum over everything but the batch": ("a = ReduceSum<keepdims=0>(x, s) y = Neg(a)", {"s": [-1,-2]}),
    "padded by reflection": ('y = Pad<mode="reflect">(x, p)', {"p": [0,0,1,2,0,0,3,1]}),
    "padded by a number": (
        "y = Pad(x, p, v)", {"p": [0,1,1,0,0,0,0,1], "v": 2.5},
    ),
    "concatenated with its half": ("c = Conv(x, w) a, b = Split<axis=1>(c) y = Concat<axis=1>(c, b)", {"w": (6, 3, 1, 1)}),
    "taken apart and shifted": (
        ""
        "a = Slice(x, b, e, ax, st) y = Gather<axis=1>(a, i)",
        {"b": [-1], "e": [-9223372036854775807], "ax": [3], "st": [-1], "i": 1},
    ),
    "channels gathered": ("y = Gather<axis=1>(x, i)", {"i": [2,0,-1]}),
    "Softmax over channels": ("y = Softmax<axis=1>(x)", {}),
    "attention over pixels": (
        "r = Reshape(x, s) t = Transpose<perm=[0,2,1]>(r) m = MatMul(t, r) a = Softmax(m) y = MatMul(a, t)",
        {"s": [0,3,81]},
    ),
    "Resize nearest": (
        'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , n)',
        {"n": [1.0,1.0,2.0,2.0]},
    ),
    "Resize bilinear": (
        'sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, , , m)', {"n": [17,12]},
    ),
    "Resize bilinear, corners aligned": (
        'sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , m)', {"n": [17,12]},
    ),
    "expanded": ("a = GlobalAveragePool(x) e = Expand(a, s) y = Sub(x, e)", {"s": [1,3,9,9]}),
    "powers": ("a = Pow(x, o) e = Exp(x) b = Pow(e, h) y = Add(a, b)", {"o": 2.0, "h": 0.5}),
    "LeakyReLU, the usual slope": ("y = LeakyRelu(x)", {}),
    "SELU": ("a = Selu(x) y = Selu<alpha=1.2, gamma=0.8>(a)", {}),
    "Resize nearest, as ONNX has it by default": ("y = Resize(x, , n)", {"n": [1.0, 1.0, 2.0, 3.0]}),
    "Resize nearest to a size with a common factor": (
        'sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , , m)',
        {"n": [15, 12]},
    ),
    "Resize nearest, corners aligned": (
        'y = Resize<coordinate_transformation_mode="align_corners", nearest_mode="round_prefer_ceil">(x, , n)', {"n": [1.0, 1.0, 2.0, 1.5]},
    ),
    "an even kernel, padded by half": ("y = Conv<pads=[1,1,1,1]>(x, w)", {"w": (4, 3, 2, 2)}),
    "a grouped convolution whose rows are divided": (
        "z = Conv(x, v) g = Conv<group=2>(z, w) a, b, c = Split<axis=2>(g) y = Concat<axis=2>(c, a, b)",
        {"v": (4, 3, 1, 1), "w": (4, 2, 1, 1)},
    ),
    "over a line, SAME": (
        'a = ReduceMean<axes=[2,3]>(x) s = Reshape(a, line) b = Conv<auto_pad="SAME_UPPER">(s, w) c = Reshape(b, maps) y = Mul(x, c)',
        {"w": (1, 1, 3), "line": [0, 1, -1], "maps": [0, 3, 1, 1]},
    ),
    "a power with a whole exponent": ("y = Pow(x, n)", {"n": 3}),
    "a power behind a clip without a minimum": ("c = Clip(x, , hi) e = Exp(c) y = Pow(e, p)", {"hi": 0.5, "p": 1.5}),
    "a sum of three": ("a = Neg(x) b = Abs(x) y = Sum(x, a, b)", {}),
    "sum of absolute values": ("l = ReduceL1<axes=[1]>(x) y = Div(x, l)", {}),
    "LayerNorm without a shift": (
        't = Transpose<perm=[0,2,3,1]>(x) n = LayerNormalization(t, scale) y = Transpose<perm=[0,3,1,2]>(n)', {"scale": (3,)},
    ),
    "maximum pooling with places that nobody reads": ("y, places = MaxPool<kernel_shape=[2,2]>(x)", {}),
    "extremes": ("a = Abs(x) y = Max(a, s, x)", {"s": (3, 1, 1)}),
    "everything gathered": (  # as_strided of torch.onnx' newer back end
        "k = Shape(x) n = Gather(k, first) r = Range(first, n, one) m = Mul(r, each) u = Reshape(m, s) j = Add(u, rest) "
        "f = Reshape(x, flat) y = Gather(f, j)",
        {"first": 0, "one": 1, "each": 243, "s": [-1,1,1,1], "flat": [-1], "rest": np.arange(243).reshape(1, 3, 9, 9)},
    ),
    "the batch in a shape": (
        "sh = Shape(x) n = Gather(sh, i) s = Concat<axis=0>(n, r) y = Reshape(x, s)",
        {"i": [0], "r": [243]},
    ),
}  # fmt: skip


def file_of(nodes: str, constants: dict[str, Any], batch: str = "N", opset: int = 17) -> onnx.ModelProto:
    """A network of these nodes; y is flattened to descriptors."""
    random = np.random.default_rng(11)
    graph = onnx.parser.parse_graph(
        f"network (float[{batch}, 3, {SIZE}, {SIZE}] x) => (float[{batch}, D] descriptor) "
        f"{{ {nodes} descriptor = Flatten(y) }}"
    )
    for name, given in constants.items():
        if isinstance(given, tuple):
            array = random.normal(size=given).astype(np.float32)
            array = np.abs(array) + 0.1 if name in ("scale", "variance") else array
        else:
            array = np.array(given, np.int64 if "int" in np.array(given).dtype.name else np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def in_tensorflow(network: NetworkGraph, pixels: np.ndarray) -> np.ndarray:
    """The network's output of pixels [N, H, W, 3]."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(network.graph_def, name="")
        given = {f"{name}:0": array for name, array in network.weights.items()}
        return session.run(network.outputs[0], {f"{PIXELS}:0": pixels, **given})


NEWER: dict[str, tuple[str, dict[str, Any]]] = {
    # the same in opset 18
    "axes of a mean": ("y = ReduceMean(x, axes)", {"axes": [-1, 2]}),
    "axes of a maximum": ("y = ReduceMax<keepdims=0>(x, axes)", {"axes": [1]}),
    "axes of a padding": ("y = Pad(x, p, , axes)", {"p": [1, 0, 2, 3], "axes": [3, -2]}),
    "parts of a split": ("a, b, c = Split<axis=1, num_outputs=3>(x) y = Concat<axis=1>(c, a, b)", {}),
}


@pytest.mark.parametrize("name", NEWER)
def test_an_operator_of_a_newer_opset_gives_the_same_in_tensorflow(name):
    require_the_same(file_of(*NEWER[name], opset=18))


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


ONE = (
    "a = GlobalAveragePool(x) r = Reshape(a, flat) g = Gemm(r, w) j = Sigmoid(g) k = Reshape(j, maps) m = Mul(x, k) "
    "p = Shape(m) q = Gather(p, first) u = Concat<axis=0>(q, rest) y = Reshape(m, u)",
    {"w": (3, 3), "flat": [1, 3], "maps": [1, 3, 1, 1], "first": [0], "rest": [-1]},
)


def test_a_file_for_batches_of_one_takes_any_batch():
    model, pixels = file_of(*ONE, batch="1"), pictures(4)
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
        ('y = Pad<mode="edge">(x, p)', {"p": [0, 0, 1, 1, 0, 0, 1, 1]}, "Pad at 'Pad' .*'edge'"),
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


NEWEST = {
    "GroupNorm of opset 18": ("c = Conv(x, w) y = GroupNormalization<num_groups=2>(c, scale, b)", {"w": (6, 3, 1, 1), "scale": (2,), "b": (2,)}, 18),
    "GroupNorm of opset 21": (
        "c = Conv(x, w) a = GroupNormalization<num_groups=2>(c, scale, b) y = GroupNormalization<num_groups=3>(a, scale, b)",
        {"w": (6, 3, 1, 1), "scale": (6,), "b": (6,)},
        21,
    ),
    "Resize by axes": ('y = Resize<mode="linear", axes=[3,2]>(x, , n)', {"n": [2.0, 3.0]}, 18),
    "GELU": ("y = Gelu(x)", {}, 20),
    "GELU with tanh": ('y = Gelu<approximate="tanh">(x)', {}, 20),
    "Mish": ("y = Mish(x)", {}, 18),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWEST)
def test_an_operator_of_the_newest_opsets_gives_the_same_in_tensorflow(name):
    nodes, constants, opset = NEWEST[name]
    require_the_same(file_of(nodes, constants, opset=opset))
