"""Checkpoint → ONNX → normal form → SavedModel that TensorFlow 2.2 runs, every step checked. One command.

Example:
    python export/to_savedmodel.py --ckpt runs/demo/checkpoints/resnest14_narrow_torch.safetensors

The folder it makes holds model.onnx (the framework's own export), normal_form.onnx, saved_model/ and parity.json. Parity
is measured on every arrow; a SavedModel that is outside the tolerance table is not kept.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file: the packages lie beside this folder, not in it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import onnx
import onnxruntime

from export import parity, probes, tf22
from export.normal_form import normal_form
from export.saved_model import network_from_onnx, write_saved_model
from export.served import call_batches, call_images
from export.to_onnx import INPUT, trained_in
from zoo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from zoo.command import log, run
from zoo.errors import ExportError
from zoo.files import new_file, new_folder, require_free, write_json
from zoo.preprocess import normalise, resize
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE, DESCRIPTOR, batch_input
from zoo.specs import PreprocessSpec

FRAMEWORKS = ("torch", "paddle")


def to_savedmodel(
    ckpt: Path,
    out: Path,
    *,
    framework: str | None = None,
    size: int | None = None,
    check_sizes: Sequence[int] = (),
    overwrite: bool = False,
) -> list[parity.Row]:
    """Exports a checkpoint and measures every arrow; `out` appears only when all of them are within tolerance.

    Args:
        ckpt: a checkpoint from either framework.
        out: folder to make.
        framework: whose exporter to use; by default the one that trained the checkpoint.
        size: side in pixels of the square that served images are resized to; by default the spec's.
        check_sizes: other sides in pixels at which the arrows of the batch signature are measured too.
        overwrite: replace `out` if it holds something.

    Raises:
        CheckpointError, ExportError, OutputError, ParityError: see there.
    """
    require_free(out, overwrite=overwrite)
    checkpoint = load_checkpoint(ckpt)
    if size:
        checkpoint = replace(checkpoint, spec=checkpoint.spec.resized(size))
    framework = framework or trained_in(checkpoint)
    with new_folder(out, overwrite=overwrite) as made, tempfile.TemporaryDirectory() as work:
        rows = _export(checkpoint, framework, f"{checkpoint.spec.name} ({framework})", made, Path(work), check_sizes)
        write_json(made / "parity.json", parity.to_json(rows))
        parity.require(rows)
    return rows


def _export(
    checkpoint: Checkpoint, framework: str, name: str, made: Path, work: Path, check_sizes: Sequence[int]
) -> list[parity.Row]:
    spec = checkpoint.spec.preprocess
    batches = probes.pixel_batches(spec.size)
    others = {f"{name}, {side} px": probes.single_picture(side) for side in check_sizes}
    for other in others.values():
        batches |= other
    np.savez(work / "pixels.npz", **batches)
    save_checkpoint(work / "model.safetensors", checkpoint)
    with _step(f"{framework} → ONNX, descriptors of both frameworks"):
        # Three processes at once: no framework shares one with another, nor with TensorFlow.
        modules = [f"{side}_models.embed" for side in FRAMEWORKS]
        wanted = [("--pixels", work / "pixels.npz", "--out", work / f"{module}.npz") for module in modules]
        exporter = ("--framework", framework, "--out", made / "model.onnx")
        _run_modules(work / "model.safetensors", ["export.to_onnx", *modules], [exporter, *wanted])
        torch_side, paddle_side = (_read(work / f"{module}.npz") for module in modules)
    source = torch_side if framework == "torch" else paddle_side
    with _step("ONNX → normal form"):
        original = onnx.load(made / "model.onnx")
        normal = normal_form(original)
        with new_file(made / "normal_form.onnx") as partial:
            onnx.save(normal, partial)
        original_out, normal_out = (_run_onnx(model, batches, spec) for model in (original, normal))
    with _step("normal form → SavedModel"):
        write_saved_model(made / "saved_model", [network_from_onnx(normal, spec)])
    with _step("SavedModel in today's TensorFlow and in TensorFlow 2.2"):
        images = probes.images(spec.size)
        resized = {key: resize(image, spec.size, spec.resize)[None] for key, image in images.items()}
        served_batches = call_batches(made / "saved_model", batches | resized)
        served_images = call_images(made / "saved_model", images)
        python_images = {key: served_batches.pop(key)[0] for key in resized}
    arrows = {
        "torch ↔ paddle": (torch_side, paddle_side),
        f"{framework} → onnx": (source, original_out),
        "onnx → normal form": (original_out, normal_out),
        "normal form → savedmodel": (normal_out, served_batches),
    }
    rows = [parity.measure(arrow, name, *sides) for arrow, sides in arrows.items()]
    rows.append(parity.measure("preprocessing → graph", name, python_images, served_images))
    with _step("SavedModel → TensorFlow 2.2"):
        inputs = [batch_input(spec.size, spec.resize)]
        in_tf22 = run_in_tf22(made / "saved_model", inputs, batches, images, work)
    if in_tf22:
        arrows["savedmodel → tf 2.2"] = served_batches, in_tf22
        rows.append(parity.measure("savedmodel → tf 2.2", name, served_batches | served_images, in_tf22))
    for label, other in others.items():
        rows += [
            parity.measure(arrow, label, *({key: side[key] for key in other} for side in sides))
            for arrow, sides in arrows.items()
        ]
    return rows


def run_in_tf22(
    saved_model: Path, inputs: list[str], batches: dict[str, np.ndarray], images: dict[str, np.ndarray], work: Path
) -> dict[str, np.ndarray]:
    """Descriptors of batches and images from a real TensorFlow 2.2.0; none, said loudly, where there is none."""
    if tf22.find_python() is None:
        log("SKIPPED: not checked in TensorFlow 2.2, which is not installed here. Run `make tf22` and export again.")
        return {}
    np.savez(work / "images.npz", **images)
    np.savez(work / "batches.npz", **{f"{key}/{name}": batch for key, batch in batches.items() for name in inputs})
    calls = [
        {"signature": CONTEST_SIGNATURE, "inputs": work / "images.npz", "outputs": work / "images_out.npz"},
        {"signature": BATCH_SIGNATURE, "inputs": work / "batches.npz", "outputs": work / "batches_out.npz"},
    ]
    tf22.run_calls([{"saved_model": saved_model, **call} for call in calls])
    found = {key.removesuffix(f"/{DESCRIPTOR}"): value for key, value in _read(work / "batches_out.npz").items()}
    return found | _read(work / "images_out.npz")


def _run_modules(ckpt: Path, modules: list[str], options: list[tuple]) -> None:
    processes = []
    try:
        for module, option in zip(modules, options, strict=True):
            command = [sys.executable, "-m", module, "--ckpt", str(ckpt), *map(str, option)]
            root = Path(__file__).resolve().parents[1]
            processes.append(
                subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        for module, process in zip(modules, processes, strict=True):
            _, said = process.communicate()
            if process.returncode:
                raise ExportError(f"{module} failed with status {process.returncode}:\n{said[-2000:].strip()}")
    finally:
        for process in processes:
            process.kill()


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _run_onnx(model: onnx.ModelProto, batches: dict[str, np.ndarray], spec: PreprocessSpec) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Paddle's files hold values that nothing reads; a warning for each says no more
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {name: session.run(None, {INPUT: normalise(batch, spec)})[0] for name, batch in batches.items()}


@contextmanager
def _step(what: str) -> Iterator[None]:
    start = time.perf_counter()
    log(f"… {what}")
    yield
    log(f"  {time.perf_counter() - start:.1f} s")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=Path, help="a landmark-zoo checkpoint from either framework")
    parser.add_argument("--out", type=Path, help="folder to make; default: beside the checkpoint, under its name")
    parser.add_argument(
        "--framework", choices=FRAMEWORKS, help="whose exporter to use; default: the one that trained it"
    )
    parser.add_argument(
        "--size", type=int, help="side in pixels that served images are resized to; default: the spec's"
    )
    parser.add_argument(
        "--check-sizes", type=int, nargs="+", default=[], help="sides in pixels to measure parity at as well"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON before the path")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    out = arguments.out or arguments.ckpt.with_suffix("")
    rows = to_savedmodel(
        arguments.ckpt,
        out,
        framework=arguments.framework,
        size=arguments.size,
        check_sizes=arguments.check_sizes,
        overwrite=arguments.overwrite,
    )
    for row in rows:
        log(str(row))
    if arguments.json:
        print(json.dumps({"parity": parity.to_json(rows)}))
    print(out / "saved_model")


if __name__ == "__main__":
    run(main)
