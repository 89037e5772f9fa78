"""Checkpoint → ONNX by each framework's own exporter."""

import contextlib
import importlib.metadata
import sys
import tempfile
import warnings
from pathlib import Path

import onnx

from export.onnx_metadata import INPUT, OUTPUT, set_origin
from export.onnx_names import rename
from zoo.checkpoint import Checkpoint, fingerprint
from zoo.errors import ExportError

OPSET = 13
"""The first opset whose Softmax works on a single axis; both exporters and onnx2tf support it."""


def export_onnx(checkpoint: Checkpoint, framework: str) -> onnx.ModelProto:
    """Exports the checkpoint's network, without the class weights, from one of the two frameworks.

    Raises:
        ExportError: the framework's exporter failed or wrote a file that is not valid ONNX.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        path = Path(folder, "model.onnx")
        parameters = _EXPORTERS[framework](checkpoint, path)
        if not path.is_file():  # paddle2onnx logs a failure and returns
            raise ExportError(f"{framework}'s exporter wrote no ONNX file; its own message is above")
        model = onnx.load(path)
    model = _with_known_amounts(model)
    _rename_output(model)
    rename(model, parameters)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES[framework]}
    set_origin(model, checkpoint.spec, fingerprint(checkpoint), framework, versions)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{framework}'s exporter wrote a file that is not valid ONNX: {error}") from error
    return model


def trained_in(checkpoint: Checkpoint) -> str:
    """The framework in a checkpoint's provenance.

    Raises:
        ExportError: the provenance has none; the caller must choose one.
    """
    framework = checkpoint.provenance.get("framework")
    if framework not in _EXPORTERS:
        raise ExportError(
            f"the checkpoint's provenance names no framework that exports (found {framework!r}). "
            f"Choose one with --framework: {' or '.join(_EXPORTERS)}."
        )
    return framework


def _export_torch(checkpoint: Checkpoint, path: Path) -> dict[str, str]:
    import torch

    from torch_models.checkpoint import build

    size = checkpoint.spec.preprocess.size
    dynamic = {INPUT: {0: "N", 2: "H", 3: "W"}, OUTPUT: {0: "N"}}
    with warnings.catch_warnings():
        # The newer exporter is as simple only with static shapes. The older one warns that it is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            build(checkpoint),
            (torch.zeros(2, 3, size, size),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=dynamic,
        )
    return {}  # its files name modules and parameters themselves


def _with_known_amounts(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file in which a Pad's amounts are constants; PyTorch's exporter leaves them to be computed by seven operators."""
    if all(node.op_type != "ConstantOfShape" for node in model.graph.node):
        return model
    import onnx_graphsurgeon as gs

    return gs.export_onnx(gs.import_onnx(model).fold_constants().cleanup())


def _export_paddle(checkpoint: Checkpoint, path: Path) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    import paddle2onnx

    from paddle_models.checkpoint import build, canonical_tensors

    network = build(checkpoint)
    images = paddle.static.InputSpec([None, 3, None, None], "float32", INPUT)
    static = paddle.jit.to_static(network, input_spec=[images], full_graph=True)
    program = path.with_name("program")
    paddle.jit.save(static, str(program))
    paddle2onnx.export(
        str(program.with_suffix(".json")),
        str(program.with_suffix(".pdiparams")),
        str(path),
        opset_version=OPSET,
        # By default it installs missing packages from the network at run time; the normal form optimises instead.
        optimize_tool="None",
    )
    return {tensor.name: name for name, tensor in canonical_tensors(network).items()}


_EXPORTERS = {"torch": _export_torch, "paddle": _export_paddle}
_PACKAGES = {
    "torch": ("landmark-zoo", "torch", "onnx"),
    "paddle": ("landmark-zoo", "paddlepaddle", "paddle2onnx", "onnx"),
}
"""The packages whose versions are stored in an ONNX file."""


def _rename_output(model: onnx.ModelProto) -> None:
    old = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [OUTPUT if name == old else name for name in node.output]
        node.input[:] = [OUTPUT if name == old else name for name in node.input]
    model.graph.output[0].name = OUTPUT
