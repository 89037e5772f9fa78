"""Normal form → SavedModel through onnx2tf, a published converter, instead of the project's own graph writer.

onnx2tf makes the TensorFlow graph; `export/writer/save.py` writes it, so both converters give the same signatures.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import onnx

from export.normal_form.half import rounded_to_half
from export.onnx_file import read_onnx
from export.onnx_metadata import source_of
from export.storage import BY_SIZE, Storage
from export.writer.convert import fitting, save_member
from zoo.disk import temporary_folder
from zoo.errors import ExportError, MissingToolError
from zoo.processes import module_environment, run_module
from zoo.signature import batch_input
from zoo.tensors import read_tensors

INSTALL = "Install it with `pip install 'landmark-zoo[onnx2tf]'`."
GRAPH, WEIGHTS, OUTPUTS = "graph.pb", "weights.safetensors", "outputs"
"""What `export/writer/onnx2tf_worker.py` writes: a GraphDef, its weights, and the header entry that names its outputs."""
_LAST_CHARACTERS = 2000


def save_with_onnx2tf(path: Path, folder: Path, storage: Storage = BY_SIZE) -> None:
    """Converts one normal form to a SavedModel with a manifest; the contract is that of `save_normal_form`.

    Args:
        path: the normal form.
        folder: the SavedModel to make.
        storage: how its weights are stored, and whether it takes images of one size only.

    Raises:
        MissingToolError: onnx2tf is not installed.
        ExportError: the file has no metadata of the project, or onnx2tf failed.
        OutputError: `folder` holds something.
    """
    require_onnx2tf()
    from export.writer.member import Member

    model = read_onnx(path)
    storage = fitting(storage, model)
    source = source_of(model, path, storage, converter="onnx2tf")
    size, resize = source.spec.preprocess.size, source.spec.preprocess.resize
    graph = _converted(rounded_to_half(model) if storage.half else model, size if storage.static else None, path)
    save_member(folder, Member(source.spec.name, graph, batch_input(size, resize)), source, storage)


def require_onnx2tf() -> None:
    """Raises a `MissingToolError` that names the extra to install if onnx2tf is not installed."""
    if importlib.util.find_spec("onnx2tf") is None:
        raise MissingToolError(f"onnx2tf is not installed. {INSTALL}")


def _converted(model: onnx.ModelProto, size: int | None, path: Path) -> Any:
    """The `NetworkGraph` that onnx2tf makes of a normal form; with `size`, for squares of that many pixels only.

    In a child process, because onnx2tf prints to stdout, seeds every random generator on import and keeps several copies of
    the weights in memory.
    """
    from tensorflow.core.framework.graph_pb2 import GraphDef

    from export.writer.graph import NetworkGraph

    with temporary_folder() as work:
        source = Path(work, "normal_form.onnx")
        onnx.save(model, source)
        options = ("--onnx", source, "--out", work, *(("--size", size) if size else ()))
        # Without the working directory on the child's path, where this file's name would hide the package onnx2tf.
        environment = module_environment() | {"PYTHONSAFEPATH": "1"}
        done = run_module("export.writer.onnx2tf_worker", *options, env=environment, capture_output=True)
        if done.returncode:
            said = (done.stdout + done.stderr)[-_LAST_CHARACTERS:].strip() or os.strerror(abs(done.returncode))
            raise ExportError(
                f"onnx2tf could not convert {path} (status {done.returncode}):\n{said}\n"
                "Use the project's own writer: leave `--converter onnx2tf` out."
            )
        weights, header = read_tensors(Path(work, WEIGHTS), error=ExportError, advice="Convert the file again.")
        graph = GraphDef.FromString(Path(work, GRAPH).read_bytes())
    return NetworkGraph(graph, header[OUTPUTS].split("\n"), weights)
