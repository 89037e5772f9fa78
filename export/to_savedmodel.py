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
from export.to_onnx import INPUT, trained_in
from zoo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from zoo.command import log, run
from zoo.errors import ExportError
from zoo.files import new_file, new_folder, require_free, write_json
from zoo.preprocess import normalise
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
        ckpt, modules = ("--ckpt", work / "model.safetensors"), [f"{side}_models.embed" for side in FRAMEWORKS]
        wanted = [(m, *ckpt, "--pixels", work / "pixels.npz", "--out", work / f"{m}.npz") for m in modules]
        _run_modules(("export.to_onnx", *ckpt, "--framework", framework, "--out", made / "model.onnx"), *wanted)
        torch_side, paddle_side = (_read(work / f"{module}.npz") for module in modules)
    source = torch_side if framework == "torch" else paddle_side
    with _step("ONNX → normal form"):
        original = onnx.load(made / "model.onnx")
        normal = normal_form(original)
        with new_file(made / "normal_form.onnx") as partial:
            onnx.save(normal, partial)
        original_out, normal_out = (run_onnx(model, batches, spec) for model in (original, normal))
    with _step("normal form → SavedModel"):
        del original, normal  # TensorFlow needs many times the weights' memory, and gets a process of its own
        _run_modules(("export.saved_model", "--onnx", made / "normal_form.onnx", "--out", made / "saved_model"))
    inputs = [batch_input(spec.size, spec.resize)]
    with _step("SavedModel in today's TensorFlow"):
        images, resized = probes.images(spec.size), probes.resized_images(spec)
        saved_model, today = made / "saved_model", Path(sys.executable)
        served_batches, served_images = run_in(today, saved_model, inputs, batches | resized, images, work)
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
        in_tf22 = run_in_tf22(saved_model, inputs, batches, images, work)
    if in_tf22:
        arrows["savedmodel → tf 2.2"] = served_batches, in_tf22
        rows.append(parity.measure("savedmodel → tf 2.2", name, served_batches | served_images, in_tf22))
        # From end to end as well: errors of one sign would add up over arrows that each hold.
        whole = f"{framework} → tf 2.2"
        arrows[whole] = source, {key: in_tf22[key] for key in batches}
        rows.append(parity.measure(whole, name, *arrows[whole]))
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
    python = tf22.find_python()
    if python is None:
        log("SKIPPED: not checked in TensorFlow 2.2, which is not installed here. Run `make tf22` and export again.")
        return {}
    found_batches, found_images = run_in(python, saved_model, inputs, batches, images, work)
    return found_batches | found_images


def run_in(
    python: Path,
    saved_model: Path,
    inputs: list[str],
    batches: dict[str, np.ndarray],
    images: dict[str, np.ndarray],
    work: Path,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Descriptors of resized batches and of images from the TensorFlow that a python has, in a process of its own."""
    tf22.run_calls(write_calls(saved_model, inputs, batches, images, work), python=python)
    return read_calls(work)


def write_calls(
    saved_model: Path, inputs: list[str], batches: dict[str, np.ndarray], images: dict[str, np.ndarray], work: Path
) -> list[tf22.Call]:
    """The calls of both signatures for `tf22.run_calls`; arrays go to and come from files in `work`."""
    np.savez(work / "images.npz", **images)
    np.savez(work / "batches.npz", **{f"{key}/{name}": batch for key, batch in batches.items() for name in inputs})
    signatures = {"images": CONTEST_SIGNATURE, "batches": BATCH_SIGNATURE}
    return [
        tf22.Call(saved_model=saved_model, signature=s, inputs=work / f"{k}.npz", outputs=work / f"{k}_out.npz")
        for k, s in signatures.items()
    ]


def read_calls(work: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the calls of `write_calls` returned: descriptors of batches, and of images."""
    found = {key.removesuffix(f"/{DESCRIPTOR}"): value for key, value in _read(work / "batches_out.npz").items()}
    return found, _read(work / "images_out.npz")


def _run_modules(*commands: tuple) -> None:
    """Runs modules of ours side by side, each a process of its own: (module, *options)."""
    processes = []
    try:
        for module, *options in commands:
            command = [sys.executable, "-m", module, *map(str, options)]
            root = Path(__file__).resolve().parents[1]
            processes.append(
                subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        for (module, *_), process in zip(commands, processes, strict=True):
            _, said = process.communicate()
            if process.returncode:
                raise ExportError(f"{module} failed with status {process.returncode}:\n{said[-2000:].strip()}")
    finally:
        for process in processes:
            process.kill()


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def run_onnx(model: onnx.ModelProto, batches: dict[str, np.ndarray], spec: PreprocessSpec) -> dict[str, np.ndarray]:
    """Descriptors float32 [N, D] of batches of resized pixels in ONNX Runtime."""
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
