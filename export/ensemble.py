"""Members → one SavedModel whose descriptor is the members' descriptors, weighted and concatenated.

Examples:
    python -m export.ensemble --members a/saved_model b/saved_model --weights 1 0.8 --out ensemble
    python -m export.ensemble --members a/saved_model b/saved_model --scales 0.7 1 1.4 --flip --norm l2 --out ensemble

Members may differ in resolution; images are resized once per distinct resolution. By default the concatenation
is scaled to unit norm by one constant, which changes no ranking.
"""

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export import parity, tf22
from export.check import check
from export.parity import probes
from export.parity.everywhere import Arrays, arrow_end, run_current, run_target
from export.saved_model_file import files_below, require_saved_model
from export.storage import Storage, add_store_option
from export.tensorflows import add_tf_option, full_version
from export.writer.combine import NORMS, PLAIN, Combination, NumpyArrays, Whitening
from retrieval.provenance import require_same_model
from retrieval.whitening import read_whitening
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import require_room
from zoo.errors import ExportError
from zoo.files import new_folder, output_folder, require_elsewhere, work_folder, write_json
from zoo.manifest import (
    Check,
    Combined,
    Manifest,
    Source,
    file_sha256,
    model_identity,
    require_manifest,
    versions,
    write_manifest,
)
from zoo.preprocess import resize
from zoo.processes import one_process
from zoo.signature import read_batch_input
from zoo.strict import Scale, Weight


def ensemble(
    members: Sequence[str | os.PathLike],
    weights: Sequence[float],
    out: str | os.PathLike,
    combination: Combination = PLAIN,
    *,
    whitening_sha256: str | None = None,
    whitened: dict | None = None,
    variables: bool | None = None,
    tensorflow: str = tf22.TENSORFLOW,
    overwrite: bool = False,
) -> list[parity.Row]:
    """Writes `out`/saved_model and `out`/parity.json; `out` appears only if every step is within tolerance.

    Args:
        members: SavedModels of single models, written by `export.to_savedmodel`.
        weights: one positive factor per member.
        out: folder to make.
        combination: views of an image, norm and whitening.
        whitening_sha256: of the whitening's file, for the manifest.
        whitened: the source of the descriptors that the whitening was fitted on.
        variables: store weights as variables or as constants; by default depending on their size.
        tensorflow: the version that must run it; "2.13" means the newest 2.13 that the checker knows.
        overwrite: replace `out` if it holds something.

    Raises:
        ExportError: no members, weights that do not fit, or a folder that is not a member.
        DataError: the whitening was fitted on the descriptors of another ensemble.
        OutputError, ParityError: see there.
    """
    out, folders, tensorflow = Path(out), [Path(member) for member in members], full_version(tensorflow)
    with output_folder(out, folders, overwrite=overwrite):
        if not folders or len(folders) != len(weights) or not all(0 < weight < math.inf for weight in weights):
            raise ExportError(f"expected one positive weight for each of {len(folders)} members, found {list(weights)}")
        sources = [_source(folder, weight) for folder, weight in zip(folders, weights, strict=True)]
        plain = Manifest(sources, Combined(list(combination.scales), combination.flip, combination.norm))
        if whitened is not None:
            advice = (
                "Embed images with this ensemble without a whitening, and fit one with `python -m retrieval.whitening`."
            )
            require_same_model(whitened, model_identity(plain), "the whitening and this ensemble", advice)
        name = f"ensemble of {len(folders)}"
        # One that is given twice may be stored once.
        networks = {source.checkpoint_sha256: folder for source, folder in zip(sources, folders, strict=True)}
        needed = sum(file.stat().st_size for folder in networks.values() for file in files_below(folder))
        with new_folder(out, overwrite=overwrite) as made, work_folder(out):
            require_room(out, needed)
            # In a separate process: it holds all weights, and the checks then need only one member's memory at a time.
            with one_process() as pool:
                write = pool.submit(_write, made / "saved_model", folders, list(weights), combination, variables)
                own, static = write.result()
            together = list(zip(folders, own, weights, strict=True))
            rows, checked = _check(made / "saved_model", name, together, combination, static, tensorflow)
            write_json(made / "parity.json", parity.to_json(rows))
            parity.require(rows)
            manifest = replace(
                plain,
                combined=replace(plain.combined, whitening_sha256=whitening_sha256),
                parity=rows,
                check=checked,
                versions=versions("landmark-zoo", "tensorflow"),
            )
            write_manifest(made / "saved_model", manifest)
        return rows


def _source(folder: Path, weight: float) -> Source:
    """A member's entry in the ensemble's manifest.

    Raises:
        ExportError: the folder has no manifest, or is an ensemble.
    """
    require_saved_model(folder)
    sources = require_manifest(folder).sources
    if len(sources) != 1:
        raise ExportError(
            f"{folder}: expected a member of one network, found {len(sources)} networks. "
            "Members are made with `python export/to_savedmodel.py`."
        )
    return replace(sources[0], weight=float(weight))


def _write(
    folder: Path, members: list[Path], weights: list[float], combination: Combination, variables: bool | None
) -> tuple[list[str], bool]:
    """Writes the SavedModel; returns the members' own inputs, and whether one of them takes only one size."""
    from export.writer.member import member_from_saved_model
    from export.writer.save import write_saved_model

    networks = []
    for member, weight in zip(members, weights, strict=True):
        try:
            networks.append(member_from_saved_model(member, weight))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration) as error:
            raise ExportError(f"{member} is damaged or was changed: {error}. Export it again.") from error
    write_saved_model(folder, networks, combination, variables=variables)
    return [network.input for network in networks], any(network.shape[1] for network in networks)


def _check(
    saved_model: Path,
    name: str,
    members: Sequence[tuple[Path, str, float]],
    combination: Combination,
    static: bool,
    tensorflow: str,
) -> tuple[list[parity.Row], Check]:
    """Compares the ensemble with its members, which are called separately and combined in numpy."""
    inputs = sorted({view for _, own, _ in members for view in combination.views(own)})
    size = max(read_batch_input(view)[0] for view in inputs)
    images = probes.images(size)
    resized = {
        key: {view: resize(image, *read_batch_input(view))[None] for view in inputs} for key, image in images.items()
    }
    # The same batch sizes for every input: heights and widths are dynamic, unless a member is static.
    batches = {} if static else {key: dict.fromkeys(inputs, b) for key, b in probes.pixel_batches(size).items()}
    batches |= {f"resized {key}": views for key, views in resized.items()}
    alone = {member: _member(member, own, batches, combination) for member, own in {(m, own) for m, own, _ in members}}
    parts, weights = [alone[member] for member, *_ in members], [weight for *_, weight in members]
    together = {key: combination.combine([part[key] for part in parts], weights, NumpyArrays) for key in batches}
    served_batches, served_images = run_current(saved_model, batches, images)
    found = served_batches | served_images
    expected = together | {key: together[f"resized {key}"][0] for key in images}
    rows = [parity.measure("members → ensemble", name, expected, found)]
    if in_target := run_target(saved_model, batches, images, tensorflow):
        arrow = f"savedmodel → {arrow_end(tensorflow)}"
        rows.append(parity.measure(arrow, name, found, in_target[0] | in_target[1]))
        return rows, Check(tensorflow, "run", accepted=True)
    return rows, Check(tensorflow, "registry", accepted=check(saved_model, tensorflow).accepted)


def _member(member: Path, own: str, batches: dict[str, Arrays], combination: Combination) -> Arrays:
    """A member's descriptors of every batch: each view is embedded separately, and views are combined in numpy."""
    sides = [(view, step) for view in combination.views(own) for step in ((1, -1) if combination.flip else (1,))]
    pixels = {
        f"{view} {step} {key}": {own: inputs[view][:, :, ::step]}
        for view, step in sides
        for key, inputs in batches.items()
    }
    found = run_current(member, pixels, {})[0]
    return {
        key: combination.member([found[f"{view} {step} {key}"] for view, step in sides], NumpyArrays) for key in batches
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", required=True, nargs="+", type=given_path, help="SavedModels of single models")
    parser.add_argument("--weights", nargs="+", type=ranged(Weight), help="one factor per member; default: 1 each")
    parser.add_argument(
        "--scales",
        nargs="+",
        type=ranged(Scale),
        default=[1.0],
        help="embed each image at these factors of the resolution",
    )
    parser.add_argument("--flip", action="store_true", help="also embed the mirrored image")
    parser.add_argument(
        "--norm",
        choices=NORMS,
        default="constant",
        help="of the concatenation: by one constant, by its own norm, or none",
    )
    parser.add_argument(
        "--whitening", type=given_path, help="PCA-whitening as the last layer, from retrieval.whitening"
    )
    add_store_option(parser)
    add_tf_option(parser)
    parser.add_argument("--out", required=True, type=given_path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON before the path")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    require_elsewhere(arguments.out, [*arguments.members, *([arguments.whitening] if arguments.whitening else [])])
    weights = arguments.weights or [1.0] * len(arguments.members)
    if min(arguments.scales) <= 0:
        raise ExportError(f"--scales are factors above 0, found {arguments.scales}")
    fitted = read_whitening(arguments.whitening) if arguments.whitening else None
    whitening = Whitening(fitted.mean, fitted.matrix) if fitted else None
    sha256 = file_sha256(arguments.whitening) if arguments.whitening else None
    combination = Combination(tuple(arguments.scales), arguments.flip, arguments.norm, whitening)
    variables, overwrite = Storage(weights=arguments.store).variables, arguments.overwrite
    rows = ensemble(
        arguments.members,
        weights,
        arguments.out,
        combination,
        whitening_sha256=sha256,
        whitened=fitted.source if fitted else None,
        variables=variables,
        tensorflow=arguments.tf,
        overwrite=overwrite,
    )
    for row in rows:
        log(str(row))
    if arguments.json:
        print(json.dumps({"parity": parity.to_json(rows)}))
    print(arguments.out / "saved_model")


if __name__ == "__main__":
    run(main)
