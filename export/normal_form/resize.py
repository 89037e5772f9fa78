"""Resizing by a constant factor: by scales, or as a Gather of the nearest pixels."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, replace
from zoo.errors import ExportError


def resize_by_constants(graph: gs.Graph, node: gs.Node) -> None:
    """Gives a Resize scales in place of sizes, of which one is the batch, or replaces it by the pixels that it takes.

    Args:
        graph: it belongs to.
        node: a Resize of a tensor whose lengths are known.

    Raises:
        ExportError: its sizes are computed, or it resizes with a policy that opset 13 does not have.
    """
    before = node.inputs[0].shape
    scales = _scales(node, before)
    node.attrs.pop("axes", None)
    if node.attrs.get("mode", "nearest") == "nearest" and not _is_repetition(node, scales):
        value = node.inputs[0]
        for axis, (length, scale) in enumerate(zip(before, scales, strict=True)):
            if scale != 1:
                numbers = gs.Constant(f"{node.name}/nearest{axis}", _nearest(node, int(length), float(scale)))
                value = append(graph, "Gather", [value, numbers], node.outputs[0], {"axis": axis})
        replace(graph, node.outputs[0], value)
        node.outputs.clear()
        return
    if len(node.inputs) > 3:
        short = np.floor(np.float64(before) * np.float32(scales)) < np.round(np.float64(before) * scales)  # by rounding
        scales = np.where(short, np.nextafter(np.float32(scales), np.float32(np.inf)), scales)
    constant = gs.Constant(f"{node.name}/scales", np.array(scales, np.float32))
    node.inputs = [node.inputs[0], gs.Variable.empty(), constant]


def _scales(node: gs.Node, before: list[int]) -> np.ndarray:
    """Factors of all axes, float64."""
    by_size = len(node.inputs) > 3
    given = node.inputs[3 if by_size else 2]
    if not isinstance(given, gs.Constant):
        raise ExportError(f"Resize at {node.name!r} computes its size; expected one that follows from the input's")
    axes = [axis % len(before) for axis in node.attrs.get("axes", range(len(before)))]
    scales = np.ones(len(before))
    for axis, number in zip(axes, given.values.reshape(-1), strict=True):
        scales[axis] = float(number) / before[axis] if by_size else float(number)
    return scales


def _is_repetition(node: gs.Node, scales: np.ndarray) -> bool:
    """Whether each pixel is repeated, in the form that TensorFlow has an operator for."""
    form = node.attrs.get("coordinate_transformation_mode", "half_pixel"), node.attrs.get("nearest_mode", "")
    return form == ("asymmetric", "floor") and all(float(scale).is_integer() for scale in scales)


def _nearest(node: gs.Node, length: int, scale: float) -> np.ndarray:
    """The pixel that each new one takes along an axis (ONNX, Resize)."""
    new = np.arange(math.floor(length * scale + 1e-6))
    how = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if how == "align_corners":
        places = new * (length - 1) / max(len(new) - 1, 1)
    elif how == "asymmetric":
        places = new / scale
    elif how in ("half_pixel", "pytorch_half_pixel"):
        places = (new + 0.5) / scale - 0.5 if how == "half_pixel" or len(new) > 1 else np.zeros(1)
    else:
        raise ExportError(f"Resize at {node.name!r} has {how} coordinates, which no rewrite knows")
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[node.attrs.get("nearest_mode", "round_prefer_floor")]
    return np.clip(rounded, 0, length - 1).astype(np.int64)
