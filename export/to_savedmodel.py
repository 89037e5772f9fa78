"""Exports a checkpoint to ONNX, rewrites it to the normal form, writes a SavedModel for TensorFlow 2.2, verifies each step.

Example:
    python export/to_savedmodel.py --ckpt runs/demo/checkpoints/resnest14_narrow_torch.safetensors

The output folder contains model.onnx (the framework's own export), normal_form.onnx, saved_model/ and parity.json. Each step is
compared with the one before it; an export that exceeds the tolerances is deleted.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a file: the packages lie in the repository's root, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import onnx

from export import parity, tf22
from export.exporters import trained_in
from export.normal_form.half import rounded_to_half
from export.parity import probes
from export.parity.everywhere import Arrays, Found, read, run_current, run_onnx, run_tf22
from export.saved_model_file import PB
from export.storage import BY_SIZE, CONVERTERS, Storage, add_storage_options
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, kernel_bytes, load_checkpoint, save_checkpoint, weight_bytes
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.disk import require_room
from zoo.errors import ExportError
from zoo.files import new_folder, output_folder, work_folder, write_json
from zoo.manifest import Check, require_manifest, write_manifest
from zoo.processes import ending, one_process, run_module
from zoo.signature import batch_input
from zoo.specs import ModelSpec, PreprocessSpec
from zoo.strict import Pixels


def to_savedmodel(
    ckpt: str | os.PathLike,
    out: str | os.PathLike,
    *,
    framework: str | None = None,
    size: int | None = None,
    check_sizes: Sequence[int] = (),
    storage: Storage = BY_SIZE,
    converter: str = CONVERTERS[0],
    verified: bool = True,
    overwrite: bool = False,
) -> list[parity.Row]:
    """Exports a checkpoint and measures every step; `out` appears only if all of them are within tolerance.

    Args:
        ckpt: a checkpoint from either framework.
        out: folder to make.
        framework: whose exporter to use; by default the one that trained the checkpoint.
        size: side in pixels of the square that served images are resized to; by default the spec's.
        check_sizes: other sides in pixels at which the batch signature is measured too.
        storage: how the SavedModel is stored.
        converter: what turns the normal form into a SavedModel, one of `CONVERTERS`.
        verified: measure; otherwise nothing is compared and no row is returned.
        overwrite: replace `out` if it holds something.

    Raises:
        CheckpointError, ExportError, OutputError, ParityError: see there.
    """
    ckpt, out = Path(ckpt).absolute(), Path(out).absolute()
    with output_folder(out, [ckpt], overwrite=overwrite):
        checkpoint = load_checkpoint(ckpt)
        if size:
            checkpoint = replace(checkpoint, spec=checkpoint.spec.resized(size))
        framework = framework or trained_in(checkpoint)
        with new_folder(out, overwrite=overwrite) as made, work_folder(out) as work:
            spec = checkpoint.spec
            _require_room(out, checkpoint, half=storage.half)
            save_checkpoint(work / "model.safetensors", checkpoint)
            del checkpoint  # the steps load what they need; this process waits with little memory
            export = _Export(spec, framework, made, work, storage, converter)
            if not verified:
                log("NOT VERIFIED (--no-verify): nothing was compared with the framework or run in TensorFlow 2.2.")
                export.onnx()
                export.saved_model()
                return []
            rows, checked = export.export_and_measure(check_sizes)
            write_json(made / "parity.json", parity.to_json(rows))
            parity.require(rows)
            manifest = require_manifest(made / "saved_model")
            [source] = manifest.sources
            source = replace(source, parity=rows, check=checked)
            write_manifest(made / "saved_model", replace(manifest, sources=[source], parity=rows, check=checked))
        return rows


def _require_room(out: Path, checkpoint: Checkpoint, *, half: bool) -> None:
    """For the copy of the checkpoint, two ONNX files and the SavedModel, which exist together."""
    copied, network = weight_bytes(checkpoint.spec), kernel_bytes(checkpoint.spec)
    needed = copied + 2 * network + kernel_bytes(checkpoint.spec, half=half)
    require_room(out, needed, largest=max(copied, network))


@dataclass(frozen=True)
class _Export:
    """The steps; each is a separate process, so only one at a time has the network's weights in memory."""

    spec: ModelSpec
    framework: str
    made: Path
    work: Path
    storage: Storage
    converter: str

    def onnx(self) -> None:
        """Checkpoint → model.onnx → normal_form.onnx."""
        model, normal = self.made / "model.onnx", self.made / "normal_form.onnx"
        with _step(f"{self.framework} → ONNX → normal form"):
            options = ("--ckpt", self.work / "model.safetensors", "--framework", self.framework, "--out", model)
            _run_module("export.to_onnx", *options, made=model)
            _run_module("export.normal_form", "--onnx", model, "--out", normal, made=normal)

    def saved_model(self) -> None:
        """normal_form.onnx → saved_model/."""
        with _step(f"normal form → SavedModel ({self.converter})"):
            source, folder = self.made / "normal_form.onnx", self.made / "saved_model"
            options = ("--converter", self.converter, *self.storage.arguments())
            _run_module("export.writer", "--onnx", source, "--out", folder, *options, made=folder / PB)

    def export_and_measure(self, check_sizes: Sequence[int]) -> tuple[list[parity.Row], Check]:
        """Runs all steps; returns the rows of every step and TensorFlow 2.2's verdict."""
        spec, name = self.spec.preprocess, f"{self.spec.name} ({self.framework})"
        batches = probes.pixel_batches(spec.size)
        if self.storage.static:
            batches = {key: batch for key, batch in batches.items() if batch.shape[1:3] == (spec.size, spec.size)}
        others = {side: probes.single_picture(side) for side in check_sizes}
        for other in others.values():
            batches |= other
        images, resized = probes.images(spec.size), probes.resized_images(spec)
        self.onnx()
        with _step("descriptors from PyTorch, Paddle and ONNX Runtime"):
            np.savez(self.work / "pixels.npz", **batches)
            with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
                sources = dict(zip(FRAMEWORKS, pool.map(self._descriptors, FRAMEWORKS), strict=True))
            # In a spawned process: a process that has run a network does not release its memory.
            with one_process() as pool:
                original, normal, rounded = pool.submit(
                    _run_files, self.made, batches, spec, self.storage.half
                ).result()
        self.saved_model()
        named = {key: {batch_input(spec.size, spec.resize): pixels} for key, pixels in (batches | resized).items()}
        with _step("SavedModel in the current TensorFlow"):
            served = run_current(self.made / "saved_model", named, images)
        with _step("SavedModel in TensorFlow 2.2"):
            in_tf22 = run_tf22(self.made / "saved_model", named, images)
        checked = Check(tf22.TENSORFLOW, "run", accepted=True)
        if in_tf22 is None:
            with _step("static check against TensorFlow 2.2's registry instead"):
                _run_module("export.check", self.made / "saved_model")
            checked = replace(checked, how="registry")
        unrounded = normal if rounded else None
        arrows = Found(sources, original, rounded or normal, served, in_tf22, unrounded).arrows(self.framework)
        rows = [parity.measure(arrow, name, *sides) for arrow, sides in arrows.items()]
        for size, other in others.items():
            rows += [
                parity.measure(arrow, name, *({key: side[key] for key in other} for side in sides), size=size)
                for arrow, sides in arrows.items()
                if other.keys() <= sides[0].keys()  # except the step that only images take
            ]
        return rows, checked

    def _descriptors(self, framework: str) -> Arrays:
        ckpt, pixels, out = (self.work / name for name in ("model.safetensors", "pixels.npz", f"{framework}.npz"))
        _run_module(f"{framework}_models.embed", "--ckpt", ckpt, "--pixels", pixels, "--out", out)
        return read(out)


def _run_files(made: Path, batches: Arrays, spec: PreprocessSpec, half: bool) -> tuple[Arrays, Arrays, Arrays | None]:
    """The outputs of both ONNX files in ONNX Runtime, and of the second with weights rounded to float16."""
    normal = onnx.load(made / "normal_form.onnx")
    rounded = run_onnx(rounded_to_half(normal), batches, spec) if half else None
    return run_onnx(onnx.load(made / "model.onnx"), batches, spec), run_onnx(normal, batches, spec), rounded


def _run_module(module: str, *options: object, made: Path | None = None) -> None:
    """Runs one of the project's modules in a separate process; `made` is the file that it must make."""
    done = run_module(module, *options, capture_output=True)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:].strip()
        raise ExportError(f"{module} failed ({ending(done.returncode)}):\n{said}")
    if made and not made.exists():
        raise ExportError(f"{module} ended without an error and did not write {made}. Please report this.")


@contextmanager
def _step(what: str) -> Iterator[None]:
    start = time.perf_counter()
    log(f"… {what}")
    yield
    log(f"  {time.perf_counter() - start:.1f} s")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ckpt", required=True, type=given_path, help="a landmark-zoo checkpoint from either framework"
    )
    parser.add_argument("--out", type=given_path, help="folder to make; default: beside the checkpoint, under its name")
    parser.add_argument(
        "--framework", choices=FRAMEWORKS, help="whose exporter to use; default: the one that trained it"
    )
    parser.add_argument(
        "--size", type=ranged(Pixels), help="side in pixels that served images are resized to; default: the spec's"
    )
    parser.add_argument(
        "--check-sizes", type=ranged(Pixels), nargs="+", default=[], help="sides in pixels to measure parity at as well"
    )
    parser.add_argument(
        "--converter",
        choices=CONVERTERS,
        default=CONVERTERS[0],
        help="what makes the SavedModel: the project's own writer, or onnx2tf; default: %(default)s",
    )
    add_storage_options(parser)
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="skip all comparisons and TensorFlow 2.2; submission/pack.py refuses the result",
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
        storage=Storage.given(arguments),
        converter=arguments.converter,
        verified=not arguments.no_verify,
        overwrite=arguments.overwrite,
    )
    for row in rows:
        log(str(row))
    if arguments.json:
        print(json.dumps({"parity": parity.to_json(rows)}))
    print(out / "saved_model")


if __name__ == "__main__":
    run(main)
