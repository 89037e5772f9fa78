"""Packs a SavedModel into the folder that becomes a Kaggle data set, and refuses what the contest would refuse.

Kaggle's client skips sub-folders, so a plain SavedModel would lose its `variables/`. Therefore everything here is a flat
file: the SavedModel is one `submission.zip`, and `submission-files.json` lists its content, so that the notebook can make
the same zip again if Kaggle has unpacked it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run as a script, Python searches this folder for imports, not the repository's root, where zoo/ is.
sys.path.insert(0, str(HERE.parent))

from export.check import check  # noqa: E402
from export.saved_model_file import files_below  # noqa: E402
from submission import model_card  # noqa: E402
from zoo.arguments import given_path  # noqa: E402
from zoo.command import log, run  # noqa: E402
from zoo.disk import output_errors, require_room  # noqa: E402
from zoo.errors import ExportError, OutputError, SubmissionError  # noqa: E402
from zoo.files import new_file, new_folder, output_file, output_folder, work_folder, write_json  # noqa: E402
from zoo.inputs import real_path  # noqa: E402
from zoo.manifest import PLACE, Manifest  # noqa: E402
from zoo.text import read_json  # noqa: E402

ZIP = "submission.zip"
LISTING = "submission-files.json"
METADATA = "dataset-metadata.json"
NOTEBOOK = "landmark-zoo-submission.ipynb"
README = "README.md"
SHOWN = 5
"""Reasons that an error lists."""
_EXPORT = "Make one with `python export/to_savedmodel.py`, or combine some with `python -m export.ensemble`."

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The zip format's earliest time; with a fixed time the zip's bytes depend only on the SavedModel."""


def pack(
    saved_model: Path,
    out: Path = HERE,
    *,
    owner: str,
    slug: str | None = None,
    title: str | None = None,
    include: Sequence[Path] = (),
    overwrite: bool = False,
) -> Path:
    """Fills `out` with what `kaggle datasets create -p` uploads.

    Args:
        saved_model: the folder that `tf.saved_model.save` wrote; all of its files are packed.
        out: this folder, or a new one, into which the notebook and the README are then copied.
        owner: Kaggle user or organisation.
        slug: name of the data set in its address; by default that of this folder's dataset-metadata.json, as `title`.
        title: name of the data set on its page.
        include: further files to upload, such as a model card; flat, under their own names.
        overwrite: replace an earlier submission.

    Returns:
        The path of submission.zip.

    Raises:
        SubmissionError: the SavedModel or the metadata would be refused.
        OutputError: `out` is not empty, or is a folder that must not be replaced.
    """
    out, model = real_path(out), real_path(saved_model)
    metadata = _read_metadata(HERE / METADATA)
    metadata["id"] = f"{owner}/{slug or metadata['id'].partition('/')[2]}"
    metadata["title"] = title or metadata["title"]
    check_metadata(metadata, HERE)
    _check_included(include)
    if out == HERE:
        with output_file(HERE / ZIP, [saved_model]):
            _require_replaceable(overwrite=overwrite)
            manifest = check_saved_model(saved_model)
            packed = _bytes(saved_model)
            require_room(HERE / ZIP, packed, largest=packed)
            _fill_here(saved_model, metadata, include, manifest)
        return HERE / ZIP
    # --overwrite removes the content of `out`, which must not be the model or this repository.
    if any(path.is_relative_to(out) for path in (HERE, model)) or out.is_relative_to(model):
        raise OutputError(f"{out} holds {saved_model} or this repository, or lies in it. Choose another --out.")
    with output_folder(out, [saved_model, *include], overwrite=overwrite):
        manifest = check_saved_model(saved_model)
        packed = _bytes(saved_model)
        with new_folder(out, overwrite=overwrite) as partial:
            require_room(out, packed + sum(file.stat().st_size for file in include), largest=packed)
            _fill(partial, saved_model, metadata, [*include, HERE / README, HERE / NOTEBOOK], manifest)
    return out / ZIP


def _bytes(saved_model: Path) -> int:
    return sum(file.stat().st_size for file in files_below(saved_model))


def check_saved_model(folder: Path) -> Manifest:
    """The manifest of a SavedModel, a folder or a zip, that the contest would accept and whose parity was measured; nothing in it is run.

    Raises:
        SubmissionError: TensorFlow 2.2 or the contest's scorer would refuse it, it has no manifest, or its export was not
            verified or failed.
    """
    try:
        report = check(folder)
    except ExportError as error:
        raise SubmissionError(str(error)) from error
    if rejections := [str(finding) for finding in report.findings if finding.rejects]:
        shown = "\n  ".join(rejections[:SHOWN])
        raise SubmissionError(f"{folder}: the contest would refuse it:\n  {shown}\n{_EXPORT}")
    manifest = report.manifest
    if manifest is None:
        raise SubmissionError(f"{folder} has no {PLACE}, so nobody knows what it was made from. {_EXPORT}")
    measured = [(manifest.name, manifest.parity), *((source.spec.name, source.parity) for source in manifest.sources)]
    for name, rows in measured:
        if not rows:
            raise SubmissionError(f"{folder}: the parity of {name} was not measured (--no-verify). {_EXPORT}")
        if failed := [row for row in rows if not row.passed]:
            raise SubmissionError(
                f"{folder}: {failed[0].arrow} of {failed[0].model} differs by {failed[0].max_abs:.1e}, outside its "
                f"tolerance. {_EXPORT}"
            )
    if manifest.check is None or not manifest.check.accepted:
        raise SubmissionError(f"{folder} was not accepted by TensorFlow 2.2 when it was made. {_EXPORT}")
    return manifest


def _read_metadata(path: Path) -> dict:
    """The data set's facts: texts, and lists of mappings."""
    advice = "Correct the file, or restore it with git."
    metadata = read_json(path, error=SubmissionError, advice=advice)
    texts, lists = ("id", "title", "subtitle"), ("licenses", "resources")
    sound = isinstance(metadata, dict) and all(isinstance(metadata.get(key, ""), str) for key in texts)
    sound = sound and all(
        isinstance(values := metadata.get(key, []), list) and all(isinstance(value, dict) for value in values)
        for key in lists
    )
    if not sound or not {"id", "title"} <= metadata.keys():
        raise SubmissionError(
            f"{path}: expected a mapping with {', '.join(texts)} as text and {' and '.join(lists)} as lists of mappings. {advice}"
        )
    return metadata


def check_metadata(metadata: dict, folder: Path) -> None:
    """Raises `SubmissionError` if Kaggle's client would refuse the data set's metadata.

    Rules of `dataset_create_new` in github.com/Kaggle/kaggle-api (src/kaggle/api/kaggle_api_extended.py); resources
    are expected in `folder`.
    """

    def require(holds: object, expected: str, found: object) -> None:
        if not holds:
            raise SubmissionError(f"{METADATA}: expected {expected}, found {found!r}.")

    require("INSERT_" not in json.dumps(metadata), "no INSERT_…_HERE placeholder", metadata)
    name, title, subtitle = metadata.get("id", ""), metadata.get("title", ""), metadata.get("subtitle")
    require(
        re.fullmatch(r"[A-Za-z0-9_-]+/[a-z0-9-]{6,50}", name),
        "an id owner/slug whose slug is 6 to 50 lowercase letters, digits and hyphens",
        name,
    )
    require(6 <= len(title) <= 50, "a title of 6 to 50 characters", title)
    require(subtitle is None or 20 <= len(subtitle) <= 80, "a subtitle of 20 to 80 characters", subtitle)
    licenses = metadata.get("licenses", [])
    require(len(licenses) == 1 and licenses[0].get("name"), "exactly one license with a name", licenses)
    paths = [resource.get("path", "") for resource in metadata.get("resources", [])]
    require(len(set(paths)) == len(paths), "no resource twice", paths)
    for path in paths:
        require((folder / path).is_file(), f"every resource to be a file in {folder}", path)


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
            with open(file, "rb") as source:
                sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            listing[entry.filename] = {"bytes": entry.file_size, "sha256": sha256}
    return listing


def _require_replaceable(*, overwrite: bool) -> None:
    """Raises `OutputError` if this folder holds a submission and `overwrite` is off."""
    if (HERE / ZIP).exists() and not overwrite:
        what = "there already" if (HERE / LISTING).exists() else f"there, but {LISTING} is not: nobody knows what it is"
        raise OutputError(f"{HERE / ZIP} is {what}; pass --overwrite to replace it, or choose another --out.")


def _fill_here(saved_model: Path, metadata: dict, include: Sequence[Path], manifest: Manifest) -> None:
    """Fills this folder from one that is complete. The listing goes first and comes last: without it the notebook stops."""
    own = {README, NOTEBOOK, Path(__file__).name, model_card.__name__.rpartition(".")[2] + ".py"}
    with work_folder(HERE / ZIP) as made:
        _fill(made, saved_model, metadata, include, manifest)
        names = sorted((path.name for path in made.iterdir()), key=lambda name: (name == LISTING, name))
        with output_errors(HERE):
            (HERE / LISTING).unlink(missing_ok=True)
            for name in names:
                os.replace(made / name, HERE / name)
    if others := sorted(path.name for path in HERE.iterdir() if path.is_file() and path.name not in own | set(names)):
        log(
            f"{HERE} also holds {', '.join(others)}, which would be uploaded too. Remove what you do not want to publish."
        )


def _fill(folder: Path, saved_model: Path, metadata: dict, copies: Sequence[Path], manifest: Manifest) -> None:
    for file in copies:
        with new_file(folder / file.name) as partial:
            shutil.copyfile(file, partial)
    with new_file(folder / ZIP) as partial:
        listing = write_zip(saved_model, partial)
        check_saved_model(partial)
    write_json(folder / LISTING, listing)
    write_json(folder / METADATA, metadata)
    with new_file(folder / model_card.FILE) as partial:
        size = sum(entry["bytes"] for entry in listing.values())
        partial.write_text(model_card.model_card(manifest, size), encoding="utf-8")


def _check_included(include: Sequence[Path]) -> None:
    names = [ZIP, LISTING, METADATA, NOTEBOOK, README, model_card.FILE, *(path.name for path in HERE.glob("*.py"))]
    for file in include:
        if not file.is_file():
            raise SubmissionError(f"{file}: expected a file to include, found none. Kaggle's client skips folders.")
        if file.name in names:
            raise SubmissionError(f"{file}: the upload already has a file named {file.name!r}. Rename it.")
        names.append(file.name)


def main() -> None:
    """Packs, and prints the path of submission.zip."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="python submission/pack.py --saved-model runs/ensemble/saved_model --owner YOUR_KAGGLE_NAME\n\n"
        "Checks the SavedModel as the contest's scorer would and fills submission/, which\n"
        "`kaggle datasets create -p submission` uploads. The data set's other facts (licence, subtitle, description)\n"
        f"are edited in submission/{METADATA}.",
    )
    parser.add_argument("--saved-model", type=given_path, required=True, metavar="DIR", help="the SavedModel to submit")
    parser.add_argument("--owner", required=True, help="your Kaggle user name, or an organisation's")
    parser.add_argument("--slug", help=f"the data set's name in its address (default: that of {METADATA})")
    parser.add_argument("--title", help=f"the data set's title (default: that of {METADATA})")
    parser.add_argument(
        "--include", type=given_path, nargs="+", default=[], metavar="FILE", help="more files to upload"
    )
    parser.add_argument("--out", type=given_path, default=HERE, metavar="DIR", help="another folder to fill")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier submission")
    options = vars(parser.parse_args())
    path = pack(options.pop("saved_model"), options.pop("out"), **options)
    log(f"upload with: kaggle datasets create -p {path.parent}   (again: kaggle datasets version -p … -m MESSAGE)")
    print(path)


if __name__ == "__main__":
    run(main)
