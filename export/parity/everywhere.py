"""Runs one export in every backend and pairs the results: what `to_savedmodel` and the test matrix both measure."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export import onnx_runtime, tf22
from zoo.command import log
from zoo.preprocess import normalise
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE, DESCRIPTOR
from zoo.specs import PreprocessSpec

Arrays = dict[str, np.ndarray]
Served = tuple[Arrays, Arrays]
"""Descriptors of resized batches and of images, by name."""


@dataclass(frozen=True)
class Found:
    """Descriptors of the same probes from every backend.

    Attributes:
        sources: of batches, from each framework; empty if the network is an ONNX file only.
        onnx: of batches, from the framework's own ONNX file, or the one that was given.
        normal_form: of batches, from the file that was converted.
        served: from the current TensorFlow; its batches also contain the images as resized by Python, under the same names.
        in_target: the same from TensorFlow 2.2, or the version that the export is for; None if it is not installed.
        unrounded: of batches, from the normal form before its weights were rounded to float16; None if they were not rounded.
        tensorflow: the version of `in_target`.
    """

    sources: dict[str, Arrays]
    onnx: Arrays
    normal_form: Arrays
    served: Served
    in_target: Served | None
    unrounded: Arrays | None = None
    tensorflow: str = tf22.TENSORFLOW

    def arrows(self, origin: str) -> dict[str, tuple[Arrays, Arrays]]:
        """Both sides of every step (`zoo.tolerances`) of an export, in order.

        Args:
            origin: the framework whose exporter was used, or "onnx".
        """
        first = self.sources.get(origin, self.onnx)
        batches, images = self.served
        python_images = {name: batches[name][0] for name in images}
        arrows = {}
        if self.sources:
            arrows["torch ↔ paddle"] = self.sources["torch"], self.sources["paddle"]
            arrows[f"{origin} → onnx"] = first, self.onnx
        arrows["onnx → normal form"] = self.onnx, self.normal_form if self.unrounded is None else self.unrounded
        if self.unrounded is not None:
            arrows["normal form → float16"] = self.unrounded, self.normal_form
        arrows["normal form → savedmodel"] = self.normal_form, _only(batches, first)
        arrows["preprocessing → graph"] = python_images, images
        if self.in_target:
            target = arrow_end(self.tensorflow)
            arrows[f"savedmodel → {target}"] = _together(self.served), _together(self.in_target)
            if self.unrounded is None:
                # End to end as well: errors of the same sign could add up over steps that are each within tolerance.
                arrows[f"{origin} → {target}"] = first, _only(self.in_target[0], first)
        return arrows


def arrow_end(tensorflow: str) -> str:
    """How arrows call a TensorFlow: "tf 2.2" for 2.2.0."""
    return f"tf {'.'.join(tensorflow.split('.')[:2])}"


def _only(arrays: Arrays, names: Mapping) -> Arrays:
    return {name: arrays[name] for name in names}


def _together(served: Served) -> Arrays:
    batches, images = served
    return batches | {f"image {name}": value for name, value in images.items()}


def run_onnx(model: onnx.ModelProto, batches: Arrays, spec: PreprocessSpec) -> Arrays:
    """Descriptors float32 [N, D] of batches of resized pixels in ONNX Runtime."""
    running = onnx_runtime.session(model)
    return {name: onnx_runtime.run(running, normalise(batch, spec))[0] for name, batch in batches.items()}


def run_current(saved_model: Path, batches: Mapping[str, Arrays], images: Arrays) -> Served:
    """Descriptors from the current TensorFlow, with one process per signature, which halves the peak memory."""
    with tempfile.TemporaryDirectory() as work:
        for call in write_calls(saved_model, batches, images, Path(work)):
            tf22.run_calls([call], python=Path(sys.executable))
        return read_calls(Path(work))


def run_target(
    saved_model: Path, batches: Mapping[str, Arrays], images: Arrays, tensorflow: str = tf22.TENSORFLOW
) -> Served | None:
    """Descriptors from a real TensorFlow 2.2.0, or another version; None, with a warning, if it is not installed."""
    python = tf22.find_python(tensorflow)
    if python is None:
        log(
            f"SKIPPED: not checked in TensorFlow {tensorflow}, which is not installed here. Run "
            f"`{tf22.command_for(tensorflow)}` and export again."
        )
        return None
    with tempfile.TemporaryDirectory() as work:
        tf22.run_calls(write_calls(saved_model, batches, images, Path(work)), python=python)
        return read_calls(Path(work))


def write_calls(saved_model: Path, batches: Mapping[str, Arrays], images: Arrays, work: Path) -> list[tf22.Call]:
    """The calls of both signatures for `tf22.run_calls`; a signature without inputs is left out.

    Args:
        saved_model: the SavedModel.
        batches: {name: {input of the batch signature: pixels}}.
        images: {name: uint8 image}.
        work: an empty folder for the files of arrays.
    """
    named = {f"{name}/{key}": pixels for name, inputs in batches.items() for key, pixels in inputs.items()}
    calls = []
    for signature, arrays in ((BATCH_SIGNATURE, named), (CONTEST_SIGNATURE, images)):
        if arrays:
            inputs, outputs = work / f"{signature}.npz", work / f"{signature}_out.npz"
            np.savez(inputs, **arrays)
            calls.append(tf22.Call(saved_model=saved_model, signature=signature, inputs=inputs, outputs=outputs))
    return calls


def read_calls(work: Path) -> Served:
    """The outputs of the calls of `write_calls`."""
    outputs = (work / f"{signature}_out.npz" for signature in (BATCH_SIGNATURE, CONTEST_SIGNATURE))
    batches, images = (read(path) if path.exists() else {} for path in outputs)
    return {name.removesuffix(f"/{DESCRIPTOR}"): value for name, value in batches.items()}, images


def read(path: Path) -> Arrays:
    """The arrays of an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
