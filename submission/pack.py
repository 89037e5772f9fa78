"""Packs a SavedModel into the folder that becomes a Kaggle data set, and refuses what the contest would refuse.

Kaggle's client skips sub-folders, so a plain SavedModel would lose its `variables/`. Therefore everything here is a flat
file: the SavedModel is one `submission.zip`, and `submission-files.json` lists its content, so that the notebook can make
the same zip again if Kaggle has unpacked it.
"""

import argparse
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run as a script, Python searches this folder for imports, not the repository's root, where zoo/ is.
sys.path.insert(0, str(HERE.parent))

from export import tf22  # noqa: E402
from export.check import check  # noqa: E402
from export.rehearsal import Rehearsal, rehearse  # noqa: E402
from export.saved_model_file import files_below  # noqa: E402
from submission.metadata import FILE as METADATA  # noqa: E402
from submission.metadata import TEMPLATE, check_metadata, read_metadata  # noqa: E402
from submission.model_card import FILE as MODEL_CARD  # noqa: E402
from submission.model_card import imported, model_card  # noqa: E402
from zoo import contest  # noqa: E402
from zoo.arguments import given_path  # noqa: E402
from zoo.command import log, run  # noqa: E402
from zoo.disk import require_room  # noqa: E402
from zoo.errors import ExportError, OutputError, SubmissionError  # noqa: E402
from zoo.files import new_file, new_folder, output_folder, work_folder, write_json  # noqa: E402
from zoo.inputs import real_path, require_file  # noqa: E402
from zoo.manifest import PLACE, Manifest, file_sha256  # noqa: E402

ZIP = "submission.zip"
LISTING = "submission-files.json"
NOTEBOOK = "landmark-zoo-submission.ipynb"
README = "README.md"
FILES = (ZIP, LISTING, METADATA, MODEL_CARD, NOTEBOOK, README)
"""What every upload holds."""
SKIPPED = ("datapackage.json", "kernel-metadata.json", "model-metadata.json", "model-instance-metadata.json")
"""Names of files that Kaggle's client does not upload with a data set (`upload_files` in kaggle_api_extended.py)."""
SHOWN = 5
"""Reasons that an error lists."""
_EXPORT = "Make one with `python export/to_savedmodel.py`, or combine some with `python -m export.ensemble`."

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The zip format's earliest time; with a fixed time the zip's bytes depend only on the SavedModel."""


def pack(
    saved_model: Path,
    out: Path,
    *,
    owner: str,
    slug: str | None = None,
    title: str | None = None,
    licence: str | None = None,
    metadata: Path | None = None,
    include: Sequence[Path] = (),
    data: Path | None = None,
    predictions: Path | None = None,
    verified: bool = True,
    overwrite: bool = False,
) -> Path:
    """Makes the folder that `kaggle datasets create -p` uploads, and runs what is in it in TensorFlow 2.2.

    Args:
        saved_model: the folder that `tf.saved_model.save` wrote; all of its files are packed.
        out: the folder to make.
        owner: Kaggle user or organisation.
        slug: name of the data set in its address; by default that of the metadata, as `title` and `licence`.
        title: name of the data set on its page.
        licence: one of `submission.metadata.LICENCES`.
        metadata: a dataset-metadata.json with the data set's other facts; by default the project's.
        include: further files to upload; flat, under their own names.
        data: a data set whose ranking in TensorFlow 2.2 must be that of `predictions`.
        predictions: a predictions file of `data`, made with this SavedModel.
        verified: run the packed zip in TensorFlow 2.2, if there is one.
        overwrite: replace an earlier submission.

    Returns:
        The path of submission.zip.

    Raises:
        SubmissionError: the SavedModel or the metadata would be refused, or the zip does not do in TensorFlow 2.2 what the
            SavedModel does.
        DataError: the predictions do not belong to the data set.
        OutputError: `out` is not empty, or is a folder that must not be replaced.
    """
    facts = read_metadata(metadata or TEMPLATE)
    facts["id"] = f"{owner}/{slug or facts['id'].rpartition('/')[2]}"
    facts |= ({"title": title} if title else {}) | ({"licenses": [{"name": licence}]} if licence else {})
    check_metadata(facts, {*FILES, *(file.name for file in include)})
    _check_included(include)
    _require_outside_of_this_repository(out)
    inputs = [saved_model, *include, *(path for path in (metadata, data, predictions) if path)]
    with output_folder(out, inputs, overwrite=overwrite):
        if (data is None) != (predictions is None):
            raise SubmissionError(
                "--data and --predictions belong together: a ranking, and the images that were ranked."
            )
        manifest = check_saved_model(saved_model)
        if (names := imported(manifest)) and not (licence or metadata):
            raise SubmissionError(
                f"{saved_model} contains {', '.join(names)}, which came from elsewhere under a licence of its own. State the licence "
                "of the upload with --licence, or in your own --metadata."
            )
        python = tf22.find_python() if verified else None
        packed = sum(file.stat().st_size for file in files_below(saved_model))
        with new_folder(out, overwrite=overwrite) as made, work_folder(out):
            # The zip, and what it holds once more while it is checked and run.
            require_room(out, 2 * packed + sum(file.stat().st_size for file in include), largest=packed)
            _copy([*include, HERE / README, HERE / NOTEBOOK], made)
            write_json(made / METADATA, facts)
            write_json(made / LISTING, _write_checked_zip(saved_model, made / ZIP))
            rehearsal = rehearse(made / ZIP, saved_model, python, data, predictions) if python else None
            with new_file(made / MODEL_CARD) as partial:
                partial.write_text(
                    model_card(manifest, packed, rehearsal, facts["licenses"][0]["name"]), encoding="utf-8"
                )
        for line in _describe(rehearsal, verified=verified):
            log(line)
        log(f"upload with: kaggle datasets create -p {out}   (again: kaggle datasets version -p {out} -m MESSAGE)")
    return out / ZIP


def check_saved_model(path: Path) -> Manifest:
    """The manifest of a SavedModel, a folder or a zip, that the contest would accept and whose parity was measured; nothing in it is run.

    Raises:
        SubmissionError: TensorFlow 2.2 or the contest's scorer would refuse it, it has no manifest of its own, or its export was
            not verified or failed.
    """
    try:
        report = check(path)
    except ExportError as error:
        raise SubmissionError(str(error)) from error
    if rejections := [str(finding) for finding in report.findings if finding.rejects]:
        shown = "\n  ".join(rejections[:SHOWN])
        raise SubmissionError(f"{path}: the contest would refuse it:\n  {shown}\n{_EXPORT}")
    manifest = report.manifest
    if manifest is None:
        raise SubmissionError(f"{path} has no {PLACE}, so nobody knows what it was made from. {_EXPORT}")
    if not report.manifest_fits:
        raise SubmissionError(
            f"{path}: its {PLACE} was not written for its graph and variables, which were changed since, or an older version wrote "
            f"it: what was measured may not be what it holds. {_EXPORT}"
        )
    measured = [(manifest.name, manifest.parity), *((source.spec.name, source.parity) for source in manifest.sources)]
    for name, rows in measured:
        if not rows:
            raise SubmissionError(f"{path}: the parity of {name} was not measured (--no-verify). {_EXPORT}")
        if failed := [row for row in rows if not row.passed]:
            raise SubmissionError(
                f"{path}: {failed[0].arrow} of {failed[0].model} differs by {failed[0].max_abs:.1e}, outside its "
                f"tolerance. {_EXPORT}"
            )
    if manifest.check is None or not manifest.check.accepted:
        raise SubmissionError(f"{path} was not accepted by TensorFlow 2.2 when it was made. {_EXPORT}")
    if manifest.check.tensorflow != tf22.TENSORFLOW:
        raise SubmissionError(
            f"{path} was made for TensorFlow {manifest.check.tensorflow} (--tf), and the contest runs {tf22.TENSORFLOW}. {_EXPORT}"
        )
    return manifest


def write_zip(saved_model: Path, path: Path) -> dict[str, dict]:
    """Zips every file of `saved_model`, `saved_model.pb` at the root, deterministically.

    Folders that are symbolic links are followed. Stored without compression: trained weights hardly compress, and compressed bytes differ between zlib versions.

    Returns:
        {name in the zip: {"bytes": int, "sha256": hex}}, sorted by name.
    """
    listing = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files_below(saved_model):
            entry = zipfile.ZipInfo(file.relative_to(saved_model).as_posix(), _EPOCH)
            entry.create_system, entry.external_attr, entry.file_size = 3, 0o100644 << 16, file.stat().st_size
            with open(file, "rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            listing[entry.filename] = {"bytes": entry.file_size, "sha256": file_sha256(file)}
    return listing


def _write_checked_zip(saved_model: Path, path: Path) -> dict[str, dict]:
    with new_file(path) as partial:
        listing = write_zip(saved_model, partial)
        check_saved_model(partial)
    return listing


def _copy(files: Sequence[Path], folder: Path) -> None:
    for file in files:
        with new_file(folder / file.name) as partial:
            shutil.copyfile(file, partial)


def _require_outside_of_this_repository(out: Path) -> None:
    """--overwrite removes what `out` holds, and nothing is made among the project's own files."""
    place = real_path(out)
    if HERE.is_relative_to(place) or place.is_relative_to(HERE):
        raise OutputError(f"{out} holds landmark-zoo's own files, or lies among them. Choose another --out.")


def _check_included(include: Sequence[Path]) -> None:
    names = [*FILES, *SKIPPED]
    for file in include:
        require_file(file, "a file to include", SubmissionError, "Kaggle's client skips folders.")
        if file.name in names:
            raise SubmissionError(
                f"{file}: the upload already has a file named {file.name!r}, or Kaggle's client leaves it out. Rename it."
            )
        names.append(file.name)


def _describe(rehearsal: Rehearsal | None, *, verified: bool) -> list[str]:
    """What was verified, and the time that the contest's images would take."""
    if not verified:
        return ["NOT VERIFIED (--no-verify): what was packed was not run in TensorFlow 2.2."]
    if rehearsal is None:
        return [
            "NOT VERIFIED: what was packed was not run in TensorFlow 2.2, which is not installed here. Run `make tf22` (it needs "
            "Python 3.8; `python -m export.tf22.environment` where there is no Makefile), then pack again with --overwrite."
        ]
    version, images = f"TensorFlow {rehearsal.tensorflow}", f"{contest.IMAGES:,} images"
    processors = len(os.sched_getaffinity(0))
    row = rehearsal.difference
    lines = [
        f"verified: unzipped and run in {version}: max abs {row.max_abs:.1e} (≤ {row.tolerance:.0e}) from TensorFlow {rehearsal.reference}"
    ]
    if ranked := rehearsal.ranked:
        choice = " (a choice of the data set)" if ranked.chosen else ""
        tied = ranked.queries - ranked.same
        ties = f", {tied:,} of them but for images at the same distance" if tied else ""
        lines.append(
            f"verified: ranked by {version}: {ranked.queries:,} queries in {ranked.images:,} images{choice} as in the predictions{ties}"
        )
    lines.append(
        f"time: {rehearsal.images_per_second:.1f} images/s on this machine's {processors} processors ({version}, 800×600 photographs, one per "
        f"call): {rehearsal.hours:.1f} h for {images}; the contest allows {contest.HOURS} h"
    )
    if rehearsal.hours > contest.HOURS:
        lines.append(
            f"WARNING: at this speed {images} take longer than the {contest.HOURS} h that the contest allows. Submit a smaller network, fewer "
            "networks, scales or a smaller size, unless the contest's machine is faster than this one."
        )
    return lines


def main() -> None:
    """Packs, and prints the path of submission.zip."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="python submission/pack.py --saved-model runs/ensemble/saved_model --owner YOUR_KAGGLE_NAME --out upload\n\n"
        "Checks the SavedModel as the contest's scorer would, makes the folder that `kaggle datasets create -p upload`\n"
        "uploads, and runs what is in it in TensorFlow 2.2.",
    )
    parser.add_argument("--saved-model", type=given_path, required=True, metavar="DIR", help="the SavedModel to submit")
    parser.add_argument("--owner", required=True, help="your Kaggle user name, or an organisation's")
    parser.add_argument("--slug", help="the data set's name in its address (default: that of --metadata)")
    parser.add_argument("--title", help="the data set's title (default: that of --metadata)")
    parser.add_argument(
        "--licence", metavar="NAME", help="the data set's licence in Kaggle's spelling (default: that of --metadata)"
    )
    parser.add_argument(
        "--metadata", type=given_path, metavar="JSON", help=f"your own {METADATA}, with subtitle and description"
    )
    parser.add_argument(
        "--include", type=given_path, nargs="+", default=[], metavar="FILE", help="more files to upload"
    )
    parser.add_argument(
        "--data", type=given_path, metavar="DIR", help="a data set to rank in TensorFlow 2.2; needs --predictions"
    )
    parser.add_argument(
        "--predictions",
        type=given_path,
        metavar="CSV",
        help="the ranking of --data that TensorFlow 2.2 must find as well",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not run what was packed in TensorFlow 2.2")
    parser.add_argument("--out", type=given_path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    options = vars(parser.parse_args())
    saved_model, out, verified = options.pop("saved_model"), options.pop("out"), not options.pop("no_verify")
    print(pack(saved_model, out, verified=verified, **options))


if __name__ == "__main__":
    run(main)
