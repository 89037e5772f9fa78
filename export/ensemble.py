"""Members → one SavedModel whose descriptor is the members' descriptors, weighted and concatenated.

Example:
    python -m export.ensemble --members a/saved_model b/saved_model --weights 1 0.8 --out ensemble

The concatenation is scaled to unit norm by one constant, which changes no ranking.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from export import parity, probes
from export.saved_model import network_from_saved_model, write_saved_model
from export.served import batch_inputs, call_batches, call_images
from export.to_savedmodel import run_in_tf22
from zoo.command import log, run
from zoo.errors import ExportError
from zoo.files import new_folder, require_free, write_json
from zoo.signature import read_batch_input


def ensemble(members: list[Path], weights: list[float], out: Path, *, overwrite: bool = False) -> list[parity.Row]:
    """Writes `out`/saved_model and `out`/parity.json; `out` appears only when every arrow is within tolerance.

    Args:
        members: SavedModels of single models, written by `export.to_savedmodel`.
        weights: one positive factor a member.
        out: folder to make.
        overwrite: replace `out` if it holds something.

    Raises:
        ExportError: no members, weights that do not fit, or a folder that is no member.
        OutputError, ParityError: see there.
    """
    require_free(out, overwrite=overwrite)
    if not members or len(members) != len(weights) or min(weights) <= 0:
        raise ExportError(f"expected one positive weight for each of {len(members)} members, found {weights}")
    name = f"ensemble of {len(members)}"
    with new_folder(out, overwrite=overwrite) as made, tempfile.TemporaryDirectory() as work:
        networks = [network_from_saved_model(m, weight) for m, weight in zip(members, weights, strict=True)]
        write_saved_model(made / "saved_model", networks)
        rows = _check(made / "saved_model", name, members, weights, Path(work))
        write_json(made / "parity.json", parity.to_json(rows))
        parity.require(rows)
    return rows


def _check(saved_model: Path, name: str, members: list[Path], weights: list[float], work: Path) -> list[parity.Row]:
    inputs = batch_inputs(saved_model)
    size = max(read_batch_input(name)[0] for name in inputs)
    batches, images = probes.pixel_batches(size), probes.images(size)
    scale = np.asarray(weights) / np.linalg.norm(weights)
    expected: dict[str, list[np.ndarray]] = {key: [] for key in [*batches, *images]}
    for member, factor in zip(members, scale, strict=True):
        found = call_batches(member, batches) | call_images(member, images)
        for key, descriptors in found.items():
            expected[key].append(descriptors * np.float32(factor))
    together = {key: np.concatenate(parts, axis=-1) for key, parts in expected.items()}
    served_batches = call_batches(saved_model, batches)
    served_images = call_images(saved_model, images)
    rows = [parity.measure("members → ensemble", name, together, served_batches | served_images)]
    if in_tf22 := run_in_tf22(saved_model, inputs, batches, images, work):
        rows.append(parity.measure("savedmodel → tf 2.2", name, served_batches | served_images, in_tf22))
    return rows


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", required=True, nargs="+", type=Path, help="SavedModels of single models")
    parser.add_argument("--weights", nargs="+", type=float, help="one factor a member; default: all 1")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON before the path")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    weights = arguments.weights or [1.0] * len(arguments.members)
    rows = ensemble(arguments.members, weights, arguments.out, overwrite=arguments.overwrite)
    for row in rows:
        log(str(row))
    if arguments.json:
        print(json.dumps({"parity": parity.to_json(rows)}))
    print(arguments.out / "saved_model")


if __name__ == "__main__":
    run(main)
