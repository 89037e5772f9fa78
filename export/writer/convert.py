"""Normal form → SavedModel by the project's own graph writer, with a manifest of what it was made from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from export.normal_form.half import rounded_to_half
from export.onnx_file import ADVICE, read_onnx
from export.onnx_metadata import is_imported, source_of
from export.storage import BY_SIZE, Storage
from export.writer.combine import PLAIN
from zoo.errors import ExportError
from zoo.files import new_folder
from zoo.manifest import Manifest, Source, versions, write_manifest


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
    storage = fitting(storage, model)
    source = source_of(model, path, storage)
    try:
        member = member_from_onnx(rounded_to_half(model) if storage.half else model, source.spec, static=storage.static)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:  # a graph that is no normal form
        raise ExportError(f"{path} is not a normal form: {error}. {ADVICE}") from error
    save_member(folder, member, source, storage)


def fitting(storage: Storage, model: onnx.ModelProto) -> Storage:
    """The same storage, but static for a network from elsewhere, which takes images of one size only."""
    return replace(storage, static=True) if is_imported(model) else storage


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
