"""The sizes of all tensors of an ONNX graph, known before anything large is computed.

ONNX Runtime and onnxsim compute what depends on no input as soon as they open a file, and a file from elsewhere computes many
sizes itself (`Shape`, `Gather`, `Concat`, `Reshape`). So the graph is followed node by node for images of one size: ONNX infers
the shapes of a node's outputs, these are compared with limits, and only then are the few values computed that are sizes themselves.
"""

import contextlib
import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from zoo.errors import ExportError
from zoo.limits import AXES, REPEATED_BYTES, require_at_most

OLDEST, NEWEST = 9, 22
"""Versions of ONNX's operators that the rewrites know (`export.normal_form.opset`), and that the onnx package has."""
VALUES, OF_INPUT = 1 << 27, 32
"""Values of any tensor that a graph computes from one image, or as a multiple of the input; our own exports stay below 11."""

_OF_WEIGHTS = 4
"""Bytes of all that a graph computes from weights alone, as a multiple of the weights; folding BatchNorm takes less than 2."""

_FEW = 4096
"""Values of a tensor that is computed here."""

_LARGEST = 1 << 31
"""Numbers that sizes are made of: products of a few of them do not overflow, in ONNX's inference or elsewhere."""
_OF_NUMBERS = {"ConstantOfShape", "Expand", "Pad", "Range", "Reshape", "Resize", "Tile", "Upsample"}
"""Operators whose result has the size that their inputs say."""
REPEATING = {"ConstantOfShape", "Expand", "Tile"}
"""Operators that onnxsim can leave as they are if their result is large."""
_UP_TO_THE_END = {"Slice", "Constant"}
"""Operators whose numbers may be the largest of all, for what ends with the axis."""
_ON_SIZES = {
    *("Shape", "Size", "Constant", "ConstantOfShape", "Identity", "Cast", "CastLike", "Range", "Expand", "Tile"),
    *("Gather", "GatherElements", "GatherND", "Slice", "Concat", "Split", "Squeeze", "Unsqueeze", "Reshape", "Flatten"),
    *(
        "Transpose",
        "ScatterElements",
        "ScatterND",
        "Where",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
    ),
    *("And", "Or", "Not", "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sqrt"),
    *("Min", "Max", "ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax", "Pow", "Clip", "Trilu", "CumSum"),
}
"""Operators by which files compute sizes; a size that comes from any other is unknown."""


def require_known_sizes(
    model: onnx.ModelProto, side: int, *, batch: int | None = None, kept_above: float = math.inf
) -> dict[str, list[int]]:
    """Raises `ExportError` unless all sizes follow from those of the images, and are within limits.

    Args:
        model: a checked model without functions, subgraphs and weights in other files.
        side: pixels of an image, for axes that the model leaves open.
        batch: images at once; by default what the model says, or 1.
        kept_above: bytes above which the results of `REPEATING` are not computed, even if they depend on no image.

    Returns:
        {tensor: its lengths}.

    Raises:
        ExportError: a tensor of unknown or of unreasonable size; the message names the node that makes it.
    """
    graph, versions = model.graph, {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if len(versions) != 1 or not OLDEST <= max(versions) <= NEWEST:
        raise ExportError(f"its opset is {sorted(versions)[:8]}; expected one from {OLDEST} to {NEWEST}")
    sizes = _Sizes(max(versions), model.ir_version)
    weights = 0
    for tensor in graph.initializer:
        sizes.add_constant(tensor)
        weights += sizes.bytes(tensor.name)
    for value in graph.input:
        if value.name not in sizes.types:
            sizes.add_input(value, side, batch)
    folded = 0
    for node in graph.node:
        sizes.follow(node)
        computed = sum(sizes.bytes(name) for name in node.output if name in sizes.constant)
        if node.op_type == "Constant":  # a weight, in another place of the file
            weights += computed
        elif node.op_type not in REPEATING or computed <= kept_above:
            folded += computed
        most = max(REPEATED_BYTES, _OF_WEIGHTS * weights)
        require_at_most(most, folded, "bytes that do not depend on the images", _called(node), ExportError)
    return {name: _shape(kind.tensor_type) for name, kind in sizes.types.items()}


class _Sizes:
    """What is known of the tensors so far.

    Attributes:
        types: {tensor: its type and shape}.
        values: {tensor: its values}, of small constants.
        constant: names of tensors that do not depend on the pixels.
    """

    def __init__(self, opset: int, ir_version: int) -> None:
        self.opset, self.ir_version = [onnx.helper.make_opsetid("", opset)], ir_version
        self.types: dict[str, onnx.TypeProto] = {}
        self.values: dict[str, onnx.TensorProto] = {}
        self.constant: set[str] = set()
        self.limit = VALUES

    def add_constant(self, tensor: onnx.TensorProto) -> None:
        self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        self.constant.add(tensor.name)
        if math.prod(tensor.dims) <= _FEW:
            self.values[tensor.name] = tensor

    def add_input(self, value: onnx.ValueInfoProto, side: int, batch: int | None) -> None:
        if not value.type.tensor_type.HasField("shape"):
            raise ExportError(f"its input {value.name!r} is not a tensor with a known number of axes")
        dims = value.type.tensor_type.shape.dim
        shape = [
            dim.dim_value if dim.HasField("dim_value") else 1 if axis == 0 else side for axis, dim in enumerate(dims)
        ]
        if batch is not None:
            shape[:1] = [batch]
        self.limit = max(self.limit, OF_INPUT * math.prod(shape))
        self.types[value.name] = onnx.helper.make_tensor_type_proto(value.type.tensor_type.elem_type, shape)

    def follow(self, node: onnx.NodeProto) -> None:
        """Adds the outputs of a node, whose inputs are known."""
        read, made = [name for name in node.input if name], [name for name in node.output if name]
        types = {name: self.types[name] for name in read}
        known = {name: self.values[name] for name in read if name in self.values}
        self._require_small_numbers(node, known)
        found = self._inferred(node, types, known)
        for name in made:
            self.types[name] = found.get(name, onnx.TypeProto())
            self._check(node, name)
        if node.op_type == "Shape" or self.constant.issuperset(read):
            self.constant.update(made)
        if node.op_type in _ON_SIZES and all(self._elements(name) <= _FEW for name in made):
            self._compute(node, types, known)

    def bytes(self, name: str) -> int:
        kind = self.types[name].tensor_type
        return math.prod(_shape(kind)) * onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize

    def _require_small_numbers(self, node: onnx.NodeProto, known: Mapping) -> None:
        numbers: list[float] = []
        if node.op_type not in _UP_TO_THE_END:
            numbers += [number for attribute in node.attribute for number in (attribute.i, *attribute.ints)]
        if node.op_type in _OF_NUMBERS:
            arrays = [onnx.numpy_helper.to_array(tensor) for tensor in known.values()]
            sized = [
                array for array in arrays if array.dtype.kind in "iu" or node.op_type in ("Resize", "Upsample", "Range")
            ]
            numbers += [number for array in sized for number in array.ravel().tolist()]
        if not all(-_LARGEST <= number <= _LARGEST for number in numbers):
            raise ExportError(f"{_called(node)}: its numbers are beyond {_LARGEST:,}")

    def _inferred(self, node: onnx.NodeProto, types: Mapping, known: Mapping) -> Mapping[str, onnx.TypeProto]:
        """Types of a node's outputs, inferred in a graph of its own: some operators are only known by what they consist of."""
        if node.op_type == "GroupNormalization":  # ONNX infers nothing for it
            return {node.output[0]: types[node.input[0]]}
        inputs = [onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", inputs, outputs, list(known.values()))
        model = onnx.helper.make_model(graph, opset_imports=self.opset, ir_version=self.ir_version)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        except (RuntimeError, onnx.shape_inference.InferenceError) as error:  # the first from its checker of types
            raise ExportError(f"{_called(node)}: the size of its result cannot be inferred: {error}") from error
        return {value.name: value.type for value in inferred.graph.output}

    def _check(self, node: onnx.NodeProto, name: str) -> None:
        kind = self.types[name]
        if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
            raise ExportError(f"{_called(node)}: its result is no tensor, or of an unknown number of axes")
        if kind.tensor_type.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            raise ExportError(f"{_called(node)}: its result is no tensor of numbers")
        if not all(dim.HasField("dim_value") for dim in kind.tensor_type.shape.dim):
            raise ExportError(
                f"{_called(node)}: the size of its result does not follow from that of the images. Export the network for "
                "images of one size, or simplify the file with onnxsim"
            )
        shape = _shape(kind.tensor_type)
        require_at_most(AXES, len(shape), "axes", _called(node), ExportError)
        if min(shape, default=0) < 0 or math.prod(max(1, length) for length in shape) > self.limit:
            raise ExportError(
                f"{_called(node)}: its result has the shape {shape}, which is negative or has more than {self.limit:,} values"
            )

    def _elements(self, name: str) -> int:
        return math.prod(_shape(self.types[name].tensor_type))

    def _compute(self, node: onnx.NodeProto, types: Mapping, known: Mapping) -> None:
        """Adds the values of a node's outputs, if those of its inputs are known and they can be computed at all."""
        if node.op_type in ("Shape", "Size"):  # they read no values, so one in the place of all will do
            inputs = {name: np.broadcast_to(np.float32(0), _shape(kind.tensor_type)) for name, kind in types.items()}
        elif known.keys() == types.keys():
            inputs = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in known.items()}
        else:
            return
        made = [name for name in node.output if name]
        read, written = ([onnx.ValueInfoProto(name=n, type=self.types[n]) for n in names] for names in (types, made))
        graph = onnx.helper.make_graph([node], "node", read, written)
        with np.errstate(all="ignore"), contextlib.suppress(*_NOT_COMPUTED):
            results = ReferenceEvaluator(graph, opsets={"": self.opset[0].version}).run(None, inputs)
            for name, result in zip(made, results, strict=True):
                if list(np.shape(result)) == _shape(self.types[name].tensor_type):
                    self.values[name] = onnx.numpy_helper.from_array(np.asarray(result), name)


_NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What ONNX's reference operators raise for values that do not suit them; a size that needs such a result is unknown."""


def _shape(kind: onnx.TypeProto.Tensor) -> list[int]:
    return [dim.dim_value for dim in kind.shape.dim]


def _called(node: onnx.NodeProto) -> str:
    return f"the node {(node.name or node.output[0])[:80]!r} ({node.op_type[:80]})"
