"""Exports a checkpoint, or somebody else's ONNX file, to a SavedModel for TensorFlow 2.2 and verifies each step.

Examples:
    python export/to_savedmodel.py --ckpt runs/demo/checkpoints/resnest14_narrow_torch.safetensors
    python export/to_savedmodel.py --onnx efficientnet_b0.onnx --size 224 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225

The output folder contains model.onnx (the framework's own export), normal_form.onnx, saved_model/ and parity.json. Each step is
compared with the one before it; an export that exceeds the tolerances is deleted.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a file: the packages lie in the repository's root, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import onnx

from export import parity, tf22
from export.exporters import trained_in
from export.network_options import add_network_options, require_fitting
from export.normal_form.half import rounded_to_half
from export.onnx_file import foreign_files
from export.onnx_metadata import IMPORTED
from export.origins import OfCheckpoint, OfOnnxFile, Origin
from export.parity import probes
from export.parity.everywhere import Arrays, Found, run_current, run_onnx, run_target
from export.saved_model_file import PB
from export.steps import run_step, step
from export.storage import BY_SIZE, CONVERTERS, Storage, add_storage_options
from export.tensorflows import add_tf_option, full_version
from zoo.arguments import given_path, stated_preprocess
from zoo.checkpoint import Checkpoint, check_preprocess, kernel_bytes, load_checkpoint, save_checkpoint, weight_bytes
from zoo.command import log, run
from zoo.disk import require_room
from zoo.files import new_folder, output_folder, work_folder, write_json
from zoo.manifest import Check, require_manifest, write_manifest
from zoo.processes import one_process
from zoo.signature import batch_input
from zoo.specs import PreprocessSpec


def to_savedmodel(
    ckpt: str | os.PathLike,
    out: str | os.PathLike,
    *,
    framework: str | None = None,
    size: int | None = None,
    check_sizes: Sequence[int] = (),
    storage: Storage = BY_SIZE,
    converter: str = CONVERTERS[0],
    tensorflow: str = tf22.TENSORFLOW,
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
        tensorflow: the version that must run it; "2.13" means the newest 2.13 that the checker knows.
        verified: measure; otherwise nothing is compared and no row is returned.
        overwrite: replace `out` if it holds something.

    Raises:
        CheckpointError, ExportError, OutputError, ParityError: see there.
    """
    ckpt, out, tensorflow = Path(ckpt).absolute(), Path(out).absolute(), full_version(tensorflow)
    with output_folder(out, [ckpt], overwrite=overwrite):
        checkpoint = load_checkpoint(ckpt)
        if size:
            checkpoint = replace(checkpoint, spec=checkpoint.spec.resized(size))
        framework = framework or trained_in(checkpoint)
        with new_folder(out, overwrite=overwrite) as made, work_folder(out) as work:
            _require_room(out, checkpoint, half=storage.half)
            save_checkpoint(work / "model.safetensors", checkpoint)
            spec = checkpoint.spec
            del checkpoint  # the steps load what they need; this process waits with little memory
            origin = OfCheckpoint(work / "model.safetensors", spec.name, spec.preprocess, framework)
            return _Export(origin, made, work, storage, converter, tensorflow).run(check_sizes, verified=verified)


def onnx_to_savedmodel(
    file: str | os.PathLike,
    out: str | os.PathLike,
    preprocess: PreprocessSpec,
    *,
    name: str | None = None,
    output: str | None = None,
    storage: Storage = BY_SIZE,
    converter: str = CONVERTERS[0],
    tensorflow: str = tf22.TENSORFLOW,
    verified: bool = True,
    overwrite: bool = False,
) -> list[parity.Row]:
    """Exports a network from elsewhere, as `to_savedmodel`; the SavedModel takes images of one size only.

    Args:
        file: an ONNX file with one input, float32 [N, 3, H, W] (`export.from_onnx`).
        out: folder to make.
        preprocess: how its images are prepared; mean and std are for pixels from 0 to 1.
        name: of the network in manifests and tables; by default the file's.
        output: the tensor that is its descriptor; by default its only output.
        storage, converter, tensorflow, verified, overwrite: as in `to_savedmodel`.

    Raises:
        CheckpointError: mean or std are not for pixels from 0 to 1.
        ExportError: the file cannot be read or converted; the message names the node, the operator and the reason.
        SpecError, OutputError, ParityError: see there.
    """
    file, out, tensorflow = Path(file).absolute(), Path(out).absolute(), full_version(tensorflow)
    with output_folder(out, [file], overwrite=overwrite):
        parts = foreign_files(file)  # all beside the file, so a folder without it holds none of them
        check_preprocess(preprocess)
        usual = PreprocessSpec(preprocess.size, resize=preprocess.resize).in_order(preprocess.channels)
        whose = " (ImageNet's)" if preprocess == usual else ""
        log(
            f"images: {preprocess.size} px ({preprocess.resize}), {preprocess.channels.upper()}, mean {list(preprocess.mean)} and std "
            f"{list(preprocess.std)} of pixels from 0 to 1{whose}"
        )
        with new_folder(out, overwrite=overwrite) as made, work_folder(out) as work:
            size = sum(part.stat().st_size for part in parts)
            require_room(out, 3 * size, largest=size)  # two ONNX files and the SavedModel
            origin = OfOnnxFile(file, name or _name_of(file), preprocess, output)
            rows = _Export(origin, made, work, replace(storage, static=True), converter, tensorflow).run(
                verified=verified
            )
            [source] = require_manifest(made / "saved_model").sources
            log(
                f"descriptor: {source.spec.embedding_size} numbers per image; --output chooses another tensor of the file"
            )
            return rows


def _name_of(file: Path) -> str:
    """A network's name from its file's, without the characters that names do not have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", file.stem).lstrip("._-")[:100] or "network"


def _require_room(out: Path, checkpoint: Checkpoint, *, half: bool) -> None:
    """For the copy of the checkpoint, two ONNX files and the SavedModel, which exist together."""
    copied, network = weight_bytes(checkpoint.spec), kernel_bytes(checkpoint.spec)
    needed = copied + 2 * network + kernel_bytes(checkpoint.spec, half=half)
    require_room(out, needed, largest=max(copied, network))


@dataclass(frozen=True)
class _Export:
    """The steps from a network to a SavedModel in the folder `made`; `work` is for temporary files."""

    origin: Origin
    made: Path
    work: Path
    storage: Storage
    converter: str
    tensorflow: str

    def run(self, check_sizes: Sequence[int] = (), *, verified: bool) -> list[parity.Row]:
        """All steps, and the rows that were measured, which the SavedModel's manifest gets as well."""
        if not verified:
            log(
                f"NOT VERIFIED (--no-verify): nothing was compared with the framework or run in TensorFlow {self.tensorflow}."
            )
            self._onnx()
            self._saved_model()
            return []
        rows, checked = self._export_and_measure(check_sizes)
        write_json(self.made / "parity.json", parity.to_json(rows))
        parity.require(rows)
        manifest = require_manifest(self.made / "saved_model")
        [source] = manifest.sources
        source = replace(source, parity=rows, check=checked)
        write_manifest(self.made / "saved_model", replace(manifest, sources=[source], parity=rows, check=checked))
        return rows

    def _onnx(self) -> None:
        """The network → model.onnx → normal_form.onnx."""
        model, normal = self.made / "model.onnx", self.made / "normal_form.onnx"
        start = () if self.origin.exported_from == IMPORTED else (self.origin.exported_from,)
        with step(" → ".join((*start, "ONNX", "normal form"))):
            self.origin.write_onnx(model)
            run_step("export.normal_form", "--onnx", model, "--out", normal, made=normal)

    def _saved_model(self) -> None:
        """normal_form.onnx → saved_model/."""
        with step(f"normal form → SavedModel ({self.converter})"):
            source, folder = self.made / "normal_form.onnx", self.made / "saved_model"
            options = ("--converter", self.converter, *self.storage.arguments())
            run_step("export.writer", "--onnx", source, "--out", folder, *options, made=folder / PB)

    def _export_and_measure(self, check_sizes: Sequence[int]) -> tuple[list[parity.Row], Check]:
        """Runs all steps; returns the rows of every step and the target's verdict."""
        spec, name = self.origin.preprocess, f"{self.origin.name} ({self.origin.exported_from})"
        batches = probes.pixel_batches(spec.size)
        if self.storage.static:
            batches = {key: batch for key, batch in batches.items() if batch.shape[1:3] == (spec.size, spec.size)}
        others = {side: probes.single_picture(side) for side in check_sizes}
        for other in others.values():
            batches |= other
        images, resized = probes.images(spec.size), probes.resized_images(spec)
        self._onnx()
        with step(f"descriptors from {self.origin.runs_in}"):
            sources = self.origin.descriptors(batches, self.work)
            # In a spawned process: a process that has run a network does not release its memory.
            with one_process() as pool:
                original, normal, rounded = pool.submit(
                    _run_files, self.made, batches, spec, self.storage.half
                ).result()
        self._saved_model()
        named = {key: {batch_input(spec.size, spec.resize): pixels} for key, pixels in (batches | resized).items()}
        with step("SavedModel in the current TensorFlow"):
            served = run_current(self.made / "saved_model", named, images)
        with step(f"SavedModel in TensorFlow {self.tensorflow}"):
            in_target = run_target(self.made / "saved_model", named, images, self.tensorflow)
        checked = Check(self.tensorflow, "run", accepted=True)
        if in_target is None:
            with step(f"static check against TensorFlow {self.tensorflow}'s registry instead"):
                run_step("export.check", self.made / "saved_model", "--tf", self.tensorflow)
            checked = replace(checked, how="registry")
        unrounded = normal if rounded else None
        found = Found(sources, original, rounded or normal, served, in_target, unrounded, self.tensorflow)
        arrows = found.arrows(self.origin.exported_from)
        rows = [parity.measure(arrow, name, *sides) for arrow, sides in arrows.items()]
        for size, other in others.items():
            rows += [
                parity.measure(arrow, name, *({key: side[key] for key in other} for side in sides), size=size)
                for arrow, sides in arrows.items()
                if other.keys() <= sides[0].keys()  # except the step that only images take
            ]
        return rows, checked


def _run_files(made: Path, batches: Arrays, spec: PreprocessSpec, half: bool) -> tuple[Arrays, Arrays, Arrays | None]:
    """The outputs of both ONNX files in ONNX Runtime, and of the second with weights rounded to float16."""
    normal = onnx.load(made / "normal_form.onnx")
    rounded = run_onnx(rounded_to_half(normal), batches, spec) if half else None
    return run_onnx(onnx.load(made / "model.onnx"), batches, spec), run_onnx(normal, batches, spec), rounded


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_network_options(parser)
    parser.add_argument(
        "--out", type=given_path, help="folder to make; default: beside the network's file, under its name"
    )
    parser.add_argument(
        "--converter",
        choices=CONVERTERS,
        default=CONVERTERS[0],
        help="what makes the SavedModel: the project's own writer, or onnx2tf; default: %(default)s",
    )
    add_storage_options(parser)
    add_tf_option(parser)
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="skip all comparisons and the other TensorFlow; submission/pack.py refuses the result",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON before the path")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    require_fitting(vars(arguments))
    out = arguments.out or (arguments.ckpt or arguments.onnx).with_suffix("")
    options = {
        "storage": Storage.given(arguments),
        "converter": arguments.converter,
        "tensorflow": arguments.tf,
        "verified": not arguments.no_verify,
        "overwrite": arguments.overwrite,
    }
    if arguments.onnx:
        preprocess = PreprocessSpec().changed(stated_preprocess(arguments))
        rows = onnx_to_savedmodel(
            arguments.onnx, out, preprocess, name=arguments.name, output=arguments.output, **options
        )
    else:
        own = {"framework": arguments.framework, "size": arguments.size, "check_sizes": arguments.check_sizes}
        rows = to_savedmodel(arguments.ckpt, out, **own, **options)
    for row in rows:
        log(str(row))
    if arguments.json:
        print(json.dumps({"parity": parity.to_json(rows)}))
    print(out / "saved_model")


if __name__ == "__main__":
    run(main)
