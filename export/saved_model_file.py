"""Reads a SavedModel from disk without executing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from export.bounded_graph import require_bounded
from export.quiet_tensorflow import quiet_stderr
from export.zips import unzip
from zoo.disk import temporary_folder
from zoo.errors import ExportError
from zoo.inputs import real_path, require_file, require_folder
from zoo.limits import require_at_most

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PB = "saved_model.pb"
LARGEST_PB = (1 << 31) - 1
"""The parser's limit for a protobuf, in bytes."""
_ADVICE = "Make one with `python export/to_savedmodel.py`."


@dataclass(frozen=True)
class SavedGraph:
    """A SavedModel.

    Attributes:
        folder: where its files are; for a zip, a temporary folder.
        meta_graph: its one MetaGraphDef.
        size: bytes of all its files, or of the zip.
    """

    folder: Path
    meta_graph: Any
    size: int

    @cached_property
    def functions(self) -> dict[str, Any]:
        """{name: FunctionDef} of the library."""
        return {function.signature.name: function for function in self.meta_graph.graph_def.library.function}

    @property
    def has_objects(self) -> bool:
        """Whether it is in the style of TensorFlow 2: objects and functions are loaded, not the graph."""
        return self.meta_graph.HasField("object_graph_def")


@contextmanager
def open_saved_model(path: Path) -> Iterator[SavedGraph]:
    """Reads a SavedModel.

    Args:
        path: the folder that `tf.saved_model.save` wrote, or a zip with saved_model.pb at its root.

    Raises:
        ExportError: there is none, it cannot be read, or it has more than one graph.
    """
    if path.is_dir():
        yield _read(path, path)
        return
    require_file(path, "a SavedModel's folder or a zip of one", ExportError, _ADVICE)
    with temporary_folder() as folder:
        unzip(path, folder)
        yield _read(folder, path)


def _read(folder: Path, path: Path) -> SavedGraph:
    if not (folder / PB).is_file():
        inside = sorted(str(p.relative_to(folder).parent) for p in folder.glob(f"*/{PB}"))
        hint = f"It lies in {inside[0]!r}." if inside else "Make a SavedModel with `python export/to_savedmodel.py`."
        raise ExportError(f"{path}: expected {PB} at its root, found none. {hint}")
    model = parse_saved_model(folder / PB)
    files = [path] if path.is_file() else files_below(path)
    return SavedGraph(folder, model.meta_graphs[0], sum(file.stat().st_size for file in files))


def files_below(folder: Path) -> list[Path]:
    """Every file of a SavedModel, sorted by its path with /. Folders that are symbolic links are followed.

    Raises:
        ExportError: a link leads to a folder that it is in.
    """
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        if any(real_path(place).is_relative_to(real_path(Path(place, name))) for name in folders):
            raise ExportError(f"{place} has a link to a folder that it is in; remove the link")
        found += [Path(place, name) for name in files]
    return sorted(filter(Path.is_file, found), key=lambda path: path.relative_to(folder).as_posix())


def require_saved_model(folder: str | os.PathLike) -> Path:
    """The path of a folder's saved_model.pb.

    Raises:
        ExportError: the folder has none.
    """
    require_folder(folder, "the folder of a SavedModel", ExportError, _ADVICE)
    path = Path(folder, PB)
    if not path.is_file():
        raise ExportError(
            f"{folder} is not a SavedModel: it holds no {PB}. Make one with `python export/to_savedmodel.py`."
        )
    return path


def read_saved_model(folder: str | os.PathLike) -> Any:
    """The SavedModel message of a folder.

    Raises:
        ExportError: the folder has no saved_model.pb, or it is truncated or not a SavedModel.
    """
    return parse_saved_model(require_saved_model(folder))


def parse_saved_model(path: Path) -> Any:
    """The SavedModel message of a saved_model.pb, with its one graph.

    Raises:
        ExportError: the file is truncated or not a SavedModel, or does not have exactly one graph.
    """
    # Not at the top: TensorFlow takes seconds to import.
    with quiet_stderr():
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf import saved_model_pb2
    require_at_most(LARGEST_PB, path.stat().st_size, "bytes", path, ExportError)
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ExportError(f"{path} is not a SavedModel: found other bytes, or a part of one. {_ADVICE}") from error
    if len(model.meta_graphs) != 1:
        raise ExportError(f"{path} is not a SavedModel of one graph: found {len(model.meta_graphs)}. {_ADVICE}")
    require_bounded(model.meta_graphs[0], path)
    return model
