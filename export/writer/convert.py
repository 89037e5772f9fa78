"""Normal form → SavedModel by the project's own graph writer, with a manifest of what it was made from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from export.normal_form.half import rounded_to_half
from export.onnx_file import ADVICE, read_onnx
from export.storage import BY_SIZE, Storage
from export.writer.combine import PLAIN
from zoo.errors import DataError, ExportError, SpecError
from zoo.files import new_folder
from zoo.manifest import Manifest, Source, versions, write_manifest
from zoo.specs import read_spec
from zoo.strict import read_fields
from zoo.text import parse_json


@dataclass(frozen=True)
class _Versions:
    versions: dict[str, str]


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
    from export.writer.member import member_from_onnx

    model = read_onnx(path)
    source = source_of(model, path, storage)
    try:
        member = member_from_onnx(rounded_to_half(model) if storage.half else model, source.spec, static=storage.static)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:  # a graph that is no normal form
        raise ExportError(f"{path} is not a normal form: {error}. {ADVICE}") from error
    save_member(folder, member, source, storage)


def save_member(folder: Path, member: Any, source: Source, storage: Storage) -> None:
    """Writes one member (`export.writer.member.Member`), with its manifest, as the SavedModel of a single model.

    Args:
        folder: the SavedModel to make.
        member: its network; with `storage.half` the convolutions' weights have already been rounded to float16.
        source: what it was made from.
        storage: how its weights are stored.

    Raises:
        OutputError: `folder` holds something.
    """
    from export.writer.member import in_half_precision
    from export.writer.save import write_saved_model

    packages = ["landmark-zoo", "tensorflow", *(["onnx2tf"] if source.converter == "onnx2tf" else [])]
    with new_folder(folder) as made:
        saved = in_half_precision(member) if storage.half else member
        write_saved_model(made, [saved], PLAIN, variables=storage.variables)
        write_manifest(made, Manifest([source], versions=versions(*packages)))


def source_of(model: onnx.ModelProto, path: Path, storage: Storage, converter: str = "writer") -> Source:
    """What a normal form's metadata says about its origin.

    Raises:
        ExportError: it has no metadata of the project.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return Source(
            spec=read_spec(parse_json(properties["spec"], "its spec")),
            checkpoint_sha256=properties["checkpoint_sha256"],
            exported_from=properties["exported_from"],
            versions=read_fields(
                _Versions, {"versions": parse_json(properties["versions"], "its versions")}, "metadata"
            ).versions,
            storage=asdict(storage),
            converter=converter,
        )
    except (KeyError, DataError, SpecError) as error:
        raise ExportError(
            f"{path} has no spec in its metadata, or a damaged one ({error}); `python export/to_savedmodel.py` makes one"
        ) from error
