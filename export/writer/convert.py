"""Normal form → SavedModel with the contest's signature, which TensorFlow 2.2 loads and runs.

Example:
    python -m export.writer --onnx resnest/normal_form.onnx --out saved_model
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import onnx

from export.normal_form.half import rounded_to_half
from export.storage import BY_SIZE, CONVERTERS, Storage, add_storage_options
from export.writer.combine import PLAIN
from zoo.errors import ExportError, SpecError
from zoo.files import new_folder
from zoo.manifest import Manifest, Source, versions, write_manifest
from zoo.specs import ModelSpec


def save_normal_form(path: Path, folder: Path, storage: Storage = BY_SIZE) -> None:
    """Converts one normal form to a SavedModel with a manifest; its metadata says how images are prepared.

    Args:
        path: the normal form.
        folder: the SavedModel to make.
        storage: how its weights are stored, and whether it takes images of one size only.

    Raises:
        ExportError: the file has no metadata of the project, or an operator that a normal form does not have.
        OutputError: `folder` holds something.
    """
    from export.writer.member import in_half_precision, member_from_onnx
    from export.writer.save import write_saved_model

    model = onnx.load(path)
    source = source_of(model, path, storage)
    member = member_from_onnx(rounded_to_half(model) if storage.half else model, source.spec, static=storage.static)
    with new_folder(folder) as made:
        saved = in_half_precision(member) if storage.half else member
        write_saved_model(made, [saved], PLAIN, variables=storage.variables)
        write_manifest(made, Manifest([source], versions=versions("landmark-zoo", "tensorflow")))


def source_of(model: onnx.ModelProto, path: Path, storage: Storage, converter: str = "writer") -> Source:
    """What a normal form's metadata says of it.

    Raises:
        ExportError: it has no metadata of the project.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return Source(
            spec=ModelSpec.from_dict(json.loads(properties["spec"])),
            checkpoint_sha256=properties["checkpoint_sha256"],
            exported_from=properties["exported_from"],
            versions=json.loads(properties["versions"]),
            storage=asdict(storage),
            converter=converter,
        )
    except (KeyError, ValueError, SpecError) as error:
        raise ExportError(
            f"{path} has no spec in its metadata, or a damaged one ({error}); `python export/to_savedmodel.py` makes one"
        ) from error


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=Path, help="a normal form; its metadata has the spec")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument(
        "--converter",
        choices=CONVERTERS,
        default=CONVERTERS[0],
        help="what makes the SavedModel; default: %(default)s",
    )
    add_storage_options(parser)
    return parser.parse_args()


def main() -> None:
    """Command line: nothing is measured here; `export.to_savedmodel` does it."""
    arguments = parse_arguments()
    convert = save_normal_form
    if arguments.converter == "onnx2tf":
        from export.onnx2tf import save_with_onnx2tf as convert
    convert(arguments.onnx, arguments.out, Storage.given(arguments))
    print(arguments.out)
