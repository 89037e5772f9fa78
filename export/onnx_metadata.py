"""What an ONNX file of this project says about itself: its input, its output, and what it was made from."""

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from export.storage import Storage
from zoo.errors import DataError, ExportError, SpecError
from zoo.manifest import Source
from zoo.specs import NetworkSpec, read_spec
from zoo.strict import read_fields
from zoo.text import parse_json

INPUT, OUTPUT = "images", "descriptor"
"""float32 [N, 3, H, W], normalised (`zoo.preprocess`), and float32 [N, D], unit norm; N, H and W are dynamic."""
IMPORTED = "onnx"
"""What stands for the framework if the network came as an ONNX file; its H and W are fixed, and its N may be 1."""


def set_origin(
    model: onnx.ModelProto, spec: NetworkSpec, sha256: str, exported_from: str, versions: dict[str, str]
) -> None:
    """Writes into a model what it was made from, for `source_of`, and what its input and output are.

    Args:
        model: the model; its metadata is replaced.
        spec: of the network.
        sha256: fingerprint of the network.
        exported_from: a framework, or `IMPORTED`.
        versions: of what made the file, by name.
    """
    del model.metadata_props[:]
    properties = {
        "spec": json.dumps(spec.to_dict()),
        "checkpoint_sha256": sha256,
        "exported_from": exported_from,
        "versions": json.dumps(versions),
    }
    onnx.helper.set_model_props(model, properties)
    model.producer_name, model.producer_version = "landmark-zoo", importlib.metadata.version("landmark-zoo")
    model.graph.name = spec.name
    wanted = spec.preprocess
    shape, free = "[N, 3, H, W]", "N, H and W are free"
    if exported_from == IMPORTED:
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        shape = f"[{batch.dim_value or 'N'}, 3, {wanted.size}, {wanted.size}]"
        free = "one image at a time" if batch.dim_value else "N is free"
    model.graph.doc_string = (
        f"{INPUT}: float32 {shape}, {wanted.channels.upper()}, (value / 255 - mean) / std with mean {wanted.mean} and std "
        f"{wanted.std}; {free}. {OUTPUT}: float32 [N, D]."
    )


def is_imported(model: onnx.ModelProto) -> bool:
    """Whether a file of this project is of a network that came as an ONNX file, by its metadata."""
    return any(entry.key == "exported_from" and entry.value == IMPORTED for entry in model.metadata_props)


@dataclass(frozen=True)
class _Versions:
    versions: dict[str, str]


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
