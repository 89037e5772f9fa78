"""A network's activations per layer in every backend: its framework, ONNX, the normal form, TensorFlow.

All backends have the ReLUs in common. Each framework's exporter writes them in execution order, so the n-th Relu of an ONNX
file is the n-th ReLU of the network. The normal form keeps the names of tensors, or of their parts.
"""

import importlib
import re
import tempfile
from pathlib import Path

import numpy as np
import onnx

from export import onnx_runtime, tf22
from export.exporters import OUTPUT
from export.normal_form.surgery import PART
from zoo.checkpoint import Checkpoint
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

Layers = dict[str, np.ndarray]
DESCRIPTOR = "descriptor"
_RELU = re.compile(r"(.*\.)?(act\d?|acts\.\d+|conv1\.[25])")
"""How the zoo names its ReLUs; conv1.2 and conv1.5 are in the deep stem."""
_PARTS = re.compile("(.*?)((?:" + PART.format(r"\d+") + ")*)")
"""A tensor's name and the part's number; a part may itself be split into parts."""
SIGNATURE, PIXELS = "taps", "pixels"


def of_framework(checkpoint: Checkpoint, framework: str, pixels: np.ndarray) -> Layers:
    """Every named module's output in execution order; the last is the descriptor.

    Args:
        checkpoint: the network.
        framework: `torch` or `paddle`.
        pixels: float32 [N, H, W, 3], RGB, 0 to 255.
    """
    model = importlib.import_module(f"{framework}_models.checkpoint").build(checkpoint)
    intermediates = importlib.import_module(f"{framework}_models.embedder").intermediates
    return intermediates(model, normalise(pixels, checkpoint.spec.preprocess))


def relu_tensors(model: onnx.ModelProto, modules: list[str]) -> dict[str, str]:
    """The name of each ReLU's output tensor in an exporter's file; `modules` are all modules as they run.

    Raises:
        ExportError: the file has another number of ReLUs than the network.
    """
    relus = [name for name in modules if _RELU.fullmatch(name)]
    outputs = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    if len(relus) != len(outputs):
        raise ExportError(f"the ONNX file has {len(outputs)} ReLUs, the network {len(relus)}")
    return dict(zip(relus, outputs, strict=True)) | {DESCRIPTOR: OUTPUT}


def present(model: onnx.ModelProto, tensors: dict[str, str]) -> dict[str, list[str]]:
    """The tensors that make up each layer's output in a rewritten file; layers that were rewritten away are left out."""
    parts: dict[str, list[tuple[list[int], str]]] = {}
    for name in (name for node in model.graph.node for name in node.output):
        whole, numbers = _PARTS.fullmatch(name).groups()
        parts.setdefault(whole, []).append(([int(number) for number in re.findall(r"\d+", numbers)], name))
    return {layer: [name for _, name in sorted(parts[tensor])] for layer, tensor in tensors.items() if tensor in parts}


def with_outputs(model: onnx.ModelProto, layers: dict[str, list[str]]) -> onnx.ModelProto:
    """A copy of the model with each of these tensors as an output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for name in dict.fromkeys(name for names in layers.values() for name in names):
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def of_onnx(model: onnx.ModelProto, layers: dict[str, list[str]], pixels: np.ndarray, spec: PreprocessSpec) -> Layers:
    """The layers' outputs in ONNX Runtime, float32 [N, C, H, W]."""
    running = onnx_runtime.session(with_outputs(model, layers))
    names = [output.name for output in running.get_outputs()]
    values = dict(zip(names, onnx_runtime.run(running, normalise(pixels, spec)), strict=True))
    return _together(values, layers)


def of_tensorflow(
    normal_form: onnx.ModelProto,
    layers: dict[str, list[str]],
    pixels: np.ndarray,
    spec: PreprocessSpec,
    expected: Layers,
    python: Path,
) -> Layers:
    """The layers' outputs in the TensorFlow of `python`, from a SavedModel that has them as additional outputs.

    Args:
        expected: the same layers from ONNX Runtime; their shapes show the layout of TensorFlow's.
    """
    tapped = with_outputs(normal_form, layers)
    with tempfile.TemporaryDirectory() as folder:
        names = _save_taps(Path(folder, "saved_model"), tapped, spec)
        np.savez(Path(folder, "in.npz"), **{f"call/{PIXELS}": pixels})
        call = tf22.Call(
            saved_model=Path(folder, "saved_model"),
            signature=SIGNATURE,
            inputs=Path(folder, "in.npz"),
            outputs=Path(folder, "out.npz"),
        )
        tf22.run_calls([call], python=python)
        with np.load(Path(folder, "out.npz"), allow_pickle=False) as arrays:
            values = {tensor: arrays[f"call/{output}"] for output, tensor in names.items()}
    # TensorFlow has channels last.
    turned = {name: value.transpose(0, 3, 1, 2) if value.ndim == 4 else value for name, value in values.items()}
    found = _together(turned, layers)
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise ExportError(f"{name}: TensorFlow has {value.shape}, ONNX Runtime {expected[name].shape}")
    return found


def _save_taps(folder: Path, tapped: onnx.ModelProto, spec: PreprocessSpec) -> dict[str, str]:
    """Writes a SavedModel with all of a model's outputs; returns {output: name of its ONNX tensor}."""
    from export.writer.graph import tensorflow_graph
    from export.writer.save import write_taps

    names = {f"tap{number}": output.name for number, output in enumerate(tapped.graph.output)}
    write_taps(folder, tensorflow_graph(tapped, spec), list(names), SIGNATURE)
    return names


def _together(values: Layers, layers: dict[str, list[str]]) -> Layers:
    return {layer: np.concatenate([values[name] for name in names], axis=1) for layer, names in layers.items()}
