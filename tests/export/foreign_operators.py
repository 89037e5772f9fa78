"""Operators that networks from elsewhere have, each in a small network that `tests/export/test_imported_form.py` converts."""

from typing import Any

import numpy as np
import onnx
import onnx.parser

SIZE = 9
OPSET = 17

CASES: dict[str, tuple[Any, ...]] = {
    # name: (nodes from x [N, 3, 9, 9] to y, constants; a tuple is the shape of random weights; an opset other than 17)
    "depthwise": ("y = Conv<group=3, pads=[1,1,1,1]>(x, w)", {"w": (3, 1, 3, 3)}),
    "depthwise of stride 2": (
        "y = Conv<group=3, pads=[1,1,1,1], strides=[2,2]>(x, w, b)",
        {"w": (3, 1, 3, 3), "b": (3,)},
    ),
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
        "a = ReduceMean<axes=[2,3]>(x) b = Reshape(a, s) c = Conv<pads=[1,1]>(b, w) d = Reshape(c, t) y = Mul(x, d)",
        {"w": (1, 1, 3), "s": [0, 1, -1], "t": [0, 3, 1, 1]},
    ),
    "BatchNorm alone": (
        "y = BatchNormalization(x, scale, b, m, variance)",
        dict.fromkeys(("scale", "b", "m", "variance"), (3,)),
    ),
    "BatchNorm of features": (
        "a = GlobalAveragePool(x) f = Flatten(a) y = BatchNormalization(f, scale, b, m, variance)",
        dict.fromkeys(("scale", "b", "m", "variance"), (3,)),
    ),
    "LayerNorm over channels": (
        "t = Transpose<perm=[0,2,3,1]>(x) n = LayerNormalization<epsilon=0.001>(t, s, b) "
        "y = Transpose<perm=[0,3,1,2]>(n)",
        {"s": (3,), "b": (3,)},
    ),
    "GroupNorm": (
        "c = Conv(x, w) r = Reshape(c, s) i = InstanceNormalization(r, one, zero) u = Reshape(i, t) m = Mul(u, g) "
        "y = Add(m, h)",
        {
            "w": (4, 3, 1, 1),
            "one": (2,),
            "zero": (2,),
            "g": (4, 1, 1),
            "h": (4, 1, 1),
            "s": [0, 2, -1],
            "t": [-1, 4, 9, 9],
        },
    ),
    "L2 over channels": ("l = ReduceL2<axes=[1]>(x) y = Div(x, l)", {}),
    "LpNormalization": ("y = LpNormalization<axis=1>(x)", {}),
    "hard sigmoid behind a convolution": (
        "c = Conv(x, w, b) y = HardSigmoid<alpha=0.16666667>(c)",
        {"w": (4, 3, 1, 1), "b": (4,)},
    ),
    "hard sigmoid of another slope": ("y = HardSigmoid<alpha=0.3, beta=0.4>(x)", {}),
    "hard swish": ("y = HardSwish(x)", {}),
    "SiLU": ("s = Sigmoid(x) y = Mul(x, s)", {}),
    "GELU": (
        "q = Div(x, d) e = Erf(q) p = Add(e, o) m = Mul(x, p) y = Mul(m, h)",
        {"d": 1.4142135, "h": 0.5, "o": 1.0},
    ),
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
        {"w": (3, 5), "b": (5,), "s": [0, 3, 81]},
    ),
    "Flatten and Gemm": ("f = Flatten(x) y = Gemm<transB=1, alpha=0.5, beta=2.0>(f, w, b)", {"w": (5, 243), "b": (5,)}),
    "channels shuffled": (
        "c = Conv(x, w) r = Reshape(c, s) t = Transpose<perm=[0,2,1,3,4]>(r) y = Reshape(t, u)",
        {"w": (6, 3, 1, 1), "s": [0, 2, 3, 9, 9], "u": [0, 6, 9, 9]},
    ),
    "squeeze and excitation through vectors": (
        "a = GlobalAveragePool(x) f = Flatten(a) g = Gemm(f, v) h = Relu(g) i = Gemm(h, w) j = Sigmoid(i) "
        "k = Reshape(j, s) y = Mul(x, k)",
        {"v": (3, 2), "w": (2, 3), "s": [0, 3, 1, 1]},
    ),
    "a scale behind a convolution": ("c = Conv(x, w) y = Mul(s, c)", {"w": (4, 3, 1, 1), "s": (1, 4, 1, 1)}),
    "a number minus a convolution": ("c = Conv(x, w) y = Sub(o, c)", {"w": (4, 3, 1, 1), "o": 1.0}),
    "average pooling, padding not counted": (
        "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
        {},
    ),
    "average pooling, padding counted": (
        "y = AveragePool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1], count_include_pad=1>(x)",
        {},
    ),
    "average pooling, rounded up": ("y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pooling, SAME": ('y = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER">(x)', {}),
    "max pooling, rounded up": ("y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    "max pooling, padded": ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1>(x)", {}),
    "adaptive pooling to 3": ("y = AveragePool<kernel_shape=[3,3], strides=[3,3]>(x)", {}),
    "global max pooling": ("y = GlobalMaxPool(x)", {}),
    "a part of the axes reduced": ("a = ReduceMax<axes=[-1], keepdims=0>(x) y = ReduceSum(a, axes)", {"axes": [-2]}),
    "sum over everything but the batch": ("a = ReduceSum<keepdims=0>(x, s) y = Neg(a)", {"s": [-1, -2]}),
    "padded by reflection": ('y = Pad<mode="reflect">(x, p)', {"p": [0, 0, 1, 2, 0, 0, 3, 1]}),
    "padded by a number": ("y = Pad(x, p, v)", {"p": [0, 1, 1, 0, 0, 0, 0, 1], "v": 2.5}),
    "concatenated with its half": (
        "c = Conv(x, w) a, b = Split<axis=1>(c) y = Concat<axis=1>(c, b)",
        {"w": (6, 3, 1, 1)},
    ),
    "taken apart and shifted": (
        "a = Slice(x, b, e, ax, st) y = Gather<axis=1>(a, i)",
        {"b": [-1], "e": [-9223372036854775807], "ax": [3], "st": [-1], "i": 1},
    ),
    "channels gathered": ("y = Gather<axis=1>(x, i)", {"i": [2, 0, -1]}),
    "Softmax over channels": ("y = Softmax<axis=1>(x)", {}),
    "attention over pixels": (
        "r = Reshape(x, s) t = Transpose<perm=[0,2,1]>(r) m = MatMul(t, r) a = Softmax(m) y = MatMul(a, t)",
        {"s": [0, 3, 81]},
    ),
    "Resize nearest": (
        'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , n)',
        {"n": [1.0, 1.0, 2.0, 2.0]},
    ),
    "Resize bilinear": (
        "sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) "
        'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, , , m)',
        {"n": [17, 12]},
    ),
    "Resize bilinear, corners aligned": (
        "sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) "
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , m)',
        {"n": [17, 12]},
    ),
    "expanded": ("a = GlobalAveragePool(x) e = Expand(a, s) y = Sub(x, e)", {"s": [1, 3, 9, 9]}),
    "powers": ("a = Pow(x, o) e = Exp(x) b = Pow(e, h) y = Add(a, b)", {"o": 2.0, "h": 0.5}),
    "LeakyReLU, the usual slope": ("y = LeakyRelu(x)", {}),
    "SELU": ("a = Selu(x) y = Selu<alpha=1.2, gamma=0.8>(a)", {}),
    "Resize nearest, as ONNX has it by default": ("y = Resize(x, , n)", {"n": [1.0, 1.0, 2.0, 3.0]}),
    "Resize nearest to a size with a common factor": (
        "sh = Shape<end=2>(x) m = Concat<axis=0>(sh, n) "
        'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , , m)',
        {"n": [15, 12]},
    ),
    "Resize nearest, corners aligned": (
        'y = Resize<coordinate_transformation_mode="align_corners", nearest_mode="round_prefer_ceil">(x, , n)',
        {"n": [1.0, 1.0, 2.0, 1.5]},
    ),
    "an even kernel, padded by half": ("y = Conv<pads=[1,1,1,1]>(x, w)", {"w": (4, 3, 2, 2)}),
    "a grouped convolution whose rows are divided": (
        "z = Conv(x, v) g = Conv<group=2>(z, w) a, b, c = Split<axis=2>(g) y = Concat<axis=2>(c, a, b)",
        {"v": (4, 3, 1, 1), "w": (4, 2, 1, 1)},
    ),
    "over a line, SAME": (
        'a = ReduceMean<axes=[2,3]>(x) s = Reshape(a, line) b = Conv<auto_pad="SAME_UPPER">(s, w) '
        "c = Reshape(b, maps) y = Mul(x, c)",
        {"w": (1, 1, 3), "line": [0, 1, -1], "maps": [0, 3, 1, 1]},
    ),
    "a power with a whole exponent": ("y = Pow(x, n)", {"n": 3}),
    "a power behind a clip without a minimum": ("c = Clip(x, , hi) e = Exp(c) y = Pow(e, p)", {"hi": 0.5, "p": 1.5}),
    "a sum of three": ("a = Neg(x) b = Abs(x) y = Sum(x, a, b)", {}),
    "sum of absolute values": ("l = ReduceL1<axes=[1]>(x) y = Div(x, l)", {}),
    "LayerNorm without a shift": (
        "t = Transpose<perm=[0,2,3,1]>(x) n = LayerNormalization(t, scale) y = Transpose<perm=[0,3,1,2]>(n)",
        {"scale": (3,)},
    ),
    "maximum pooling with places that nobody reads": ("y, places = MaxPool<kernel_shape=[2,2]>(x)", {}),
    "extremes": ("a = Abs(x) y = Max(a, s, x)", {"s": (3, 1, 1)}),
    "everything gathered": (
        "k = Shape(x) n = Gather(k, first) r = Range(first, n, one) m = Mul(r, each) u = Reshape(m, s) "
        "j = Add(u, rest) f = Reshape(x, flat) y = Gather(f, j)",
        {
            "first": 0,
            "one": 1,
            "each": 243,
            "s": [-1, 1, 1, 1],
            "flat": [-1],
            "rest": np.arange(243).reshape(1, 3, 9, 9),
        },
    ),
    "the batch in a shape": (
        "sh = Shape(x) n = Gather(sh, i) s = Concat<axis=0>(n, r) y = Reshape(x, s)",
        {"i": [0], "r": [243]},
    ),
    "depthwise, dilated, of stride 2": (
        "y = Conv<group=3, pads=[2,2,2,2], dilations=[2,2], strides=[2,2]>(x, w)",
        {"w": (3, 1, 3, 3)},
    ),
    "depthwise, dilated, of unequal strides": (
        "y = Conv<group=3, pads=[1,2,1,2], dilations=[1,2], strides=[2,1]>(x, w)",
        {"w": (3, 1, 3, 3)},
    ),
    "a convolution with several readers": (
        "c = Conv(x, w) a = Relu(c) m = Mul(c, s) y = Add(a, m)",
        {"w": (4, 3, 1, 1), "s": (1, 4, 1, 1)},
    ),
    "LayerNorm over whole images": (
        "y = LayerNormalization<axis=1>(x, scale, b)",
        {"scale": (3, 9, 9), "b": (3, 9, 9)},
    ),
    "local response normalisation": (
        "c = Conv(x, w) y = LRN<size=5, alpha=0.5, beta=0.6, bias=2.0>(c)",
        {"w": (8, 3, 1, 1)},
    ),
    "a mean of three": ("a = Neg(x) b = Abs(x) y = Mean(x, a, b)", {}),
    "CELU": ("a = Celu(x) y = Celu<alpha=0.4>(a)", {}),
    "thresholded ReLU": ("a = ThresholdedRelu<alpha=-0.3>(x) y = ThresholdedRelu<alpha=0.2>(a)", {}),
    "leaky behind a convolution and a sum": (
        "c = Conv(x, w, b) s = Add(c, x) y = LeakyRelu<alpha=0.01>(s)",
        {"w": (3, 3, 1, 1), "b": (3,)},
    ),
    "steep behind a convolution and a sum": (
        "c = Conv(x, w, b) s = Add(c, x) y = LeakyRelu<alpha=1.5>(s)",
        {"w": (3, 3, 1, 1), "b": (3,)},
    ),
    "padded and cut": ("y = Pad(x, p, v)", {"p": [0, 0, -1, 2, 0, 0, 1, -2], "v": 0.5}),
    "cut on every side": ("y = Pad(x, p)", {"p": [0, -1, -1, -1, 0, 0, -1, -1]}),
    "padded by a pooling's whole kernel": (
        "p = Pad(x, a) y = AveragePool<kernel_shape=[1,1], strides=[2,2]>(p)",
        {"a": [0, 0, -1, -1, 0, 0, 1, 1]},
    ),
    "padded by the edge": ('y = Pad<mode="edge">(x, p)', {"p": [0, 1, 2, 1, 0, 0, 0, 3]}),
    "channels as pixels": ("c = Conv(x, w) y = DepthToSpace<blocksize=2>(c)", {"w": (8, 3, 1, 1)}),
    "channels as pixels, in PyTorch's order": (
        'c = Conv(x, w) y = DepthToSpace<blocksize=2, mode="CRD">(c)',
        {"w": (8, 3, 1, 1)},
    ),
    "pixels as channels": ("y = SpaceToDepth<blocksize=3>(x)", {}),
    "channels shuffled between branches": (
        "c = Conv(x, w) a, b = Split<axis=1>(c) d = Conv<group=3, pads=[1,1,1,1]>(b, v) j = Concat<axis=1>(a, d) "
        "r = Reshape(j, s) t = Transpose<perm=[0,2,1,3,4]>(r) u = Reshape(t, q) e, f = Split<axis=1>(u) g = Relu(f) "
        "y = Concat<axis=1>(e, g)",
        {"w": (6, 3, 1, 1), "v": (3, 1, 3, 3), "s": [0, 2, 3, 9, 9], "q": [0, 6, 9, 9]},
    ),
    "maps joined with normalised ones": (
        "t = Transpose<perm=[0,2,3,1]>(x) n = LayerNormalization(t, scale) u = Transpose<perm=[0,3,1,2]>(n) "
        "c = Conv(x, w) y = Concat<axis=1>(u, c, x)",
        {"scale": (3,), "w": (4, 3, 1, 1)},
    ),
    "maps joined, channels last": (
        "t = Transpose<perm=[0,2,3,1]>(x) c = Conv(x, w) d = Transpose<perm=[0,2,3,1]>(c) y = Concat<axis=-1>(d, t)",
        {"w": (4, 3, 1, 1)},
    ),
    "pixels joined with their products": (
        "r = Reshape(x, s) t = Transpose<perm=[0,2,1]>(r) m = MatMul(r, t) y = Concat<axis=2>(r, m)",
        {"s": [0, 3, 81]},
    ),
    "AveragePool as it is by default": ("y = AveragePool<kernel_shape=[2,2]>(x)", {}),
    "Clip as it is by default": ("y = Clip(x)", {}),
    "Gemm as it is by default": ("f = Flatten(x) y = Gemm(f, w)", {"w": (243, 5)}),
    "HardSigmoid as it is by default": ("y = HardSigmoid(x)", {}),
    "InstanceNormalization as it is by default": ("y = InstanceNormalization(x, scale, b)", {"scale": (3,), "b": (3,)}),
    "LRN as it is by default": ("y = LRN<size=3>(x)", {}),
    "LpNormalization as it is by default": ("y = LpNormalization(x)", {}),
    "MaxPool as it is by default": ("y = MaxPool<kernel_shape=[3,2]>(x)", {}),
    "Softmax as it is by default": ("y = Softmax(x)", {}),
    "ThresholdedRelu as it is by default": ("y = ThresholdedRelu(x)", {}),
    "axes of a mean": ("y = ReduceMean(x, axes)", {"axes": [-1, 2]}, 18),
    "axes of a maximum": ("y = ReduceMax<keepdims=0>(x, axes)", {"axes": [1]}, 18),
    "axes of a padding": ("y = Pad(x, p, , axes)", {"p": [1, 0, 2, 3], "axes": [3, -2]}, 18),
    "parts of a split": ("a, b, c = Split<axis=1, num_outputs=3>(x) y = Concat<axis=1>(c, a, b)", {}, 18),
    "GroupNorm of opset 18": (
        "c = Conv(x, w) y = GroupNormalization<num_groups=2>(c, scale, b)",
        {"w": (6, 3, 1, 1), "scale": (2,), "b": (2,)},
        18,
    ),
    "GroupNorm of opset 21": (
        "c = Conv(x, w) a = GroupNormalization<num_groups=2>(c, scale, b) "
        "y = GroupNormalization<num_groups=3>(a, scale, b)",
        {"w": (6, 3, 1, 1), "scale": (6,), "b": (6,)},
        21,
    ),
    "Resize by axes": ('y = Resize<mode="linear", axes=[3,2]>(x, , n)', {"n": [2.0, 3.0]}, 18),
    "Gelu, the operator": ("y = Gelu(x)", {}, 20),
    "Gelu with tanh, the operator": ('y = Gelu<approximate="tanh">(x)', {}, 20),
    "Mish, the operator": ("y = Mish(x)", {}, 18),
    "padded by the other side": ('y = Pad<mode="wrap">(x, p)', {"p": [0, 0, 2, 1, 0, 0, 0, 3]}, 19),
}


def file_of(nodes: str, constants: dict[str, Any], opset: int = OPSET, batch: str = "N") -> onnx.ModelProto:
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
