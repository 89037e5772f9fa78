"""Descriptors from anything that the project writes: a SavedModel, an ONNX file or a checkpoint.

Each kind is a `retrieval.describer.Describer`. TensorFlow, ONNX Runtime, PyTorch or Paddle is imported only when a model of its
kind is opened.
"""

import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.checker.flat_graph import require_small_functions
from export.checker.side_effects import require_no_side_effects
from export.quiet_tensorflow import quiet_stderr
from export.saved_model_file import PB, open_saved_model
from retrieval.describer import BATCH_SIZE, Batch, Describer, Image, Resized, describe
from zoo.checkpoint import load_checkpoint
from zoo.constants import FRAMEWORKS
from zoo.errors import DataError, ExportError, MissingToolError, SpecError
from zoo.inputs import require_file
from zoo.manifest import file_sha256, model_identity, read_manifest, saved_model_sha256
from zoo.preprocess import normalise
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE, DESCRIPTOR, batch_input, read_batch_input
from zoo.specs import read_spec
from zoo.text import parse_json

SAVED_MODEL, ONNX, CHECKPOINT = "SavedModel", "ONNX file", "checkpoint"
_EXPORT = "Run `python export/to_savedmodel.py --ckpt … --out …`, which writes a SavedModel and two ONNX files."


class Embedder:
    """A model that turns images into descriptors.

    Args:
        path: the folder of a SavedModel, single or ensemble; an exported ONNX file (`model.onnx` or `normal_form.onnx`); or a
            checkpoint. The kind is detected from the content, not from the name.
        framework: `torch` or `paddle`, for a checkpoint; by default the one that trained it.

    Raises:
        ExportError: `path` is none of these.
        MissingToolError: the framework that runs it is not installed.
        CheckpointError: it is a checkpoint whose tensors do not fit its spec.
    """

    def __init__(self, path: str | os.PathLike, framework: str | None = None) -> None:
        self.describer = open_describer(path, framework)

    def __call__(self, images: Sequence[Image], batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Descriptors of images of any sizes.

        Args:
            images: paths of image files, or arrays uint8 [H, W, 3], RGB.
            batch_size: images per call of the model; it changes speed and memory, not the result.

        Returns:
            float32 [number of images, D], of unit norm unless the model's spec says otherwise.

        Raises:
            DataError: there are no images, or one is neither a path nor such an array.
            UnreadableImageError: a file is missing or cannot be decoded.
        """
        if isinstance(images, str | os.PathLike):
            raise DataError(f"expected a list of images, found one path: {images}. Pass [{str(images)!r}].")
        return describe(self.describer, images, batch_size=batch_size)


def open_describer(path: str | os.PathLike, framework: str | None = None) -> Describer:
    """The model at `path`; arguments and errors as `Embedder`'s."""
    kind = kind_of(path)
    if kind == SAVED_MODEL:
        return SavedModelDescriber(path)
    if kind == ONNX:
        return OnnxDescriber(path)
    checkpoint = load_checkpoint(path)
    framework = framework or checkpoint.provenance.get("framework")
    if framework not in FRAMEWORKS:
        framework = FRAMEWORKS[0]  # imported weights were trained elsewhere; both frameworks compute the same
    try:
        return importlib.import_module(f"{framework}_models.embed").Describer(checkpoint)
    except ImportError as error:
        raise _missing(framework, {"torch": "torch", "paddle": "paddle,cpu"}[framework], error) from error


def kind_of(path: str | os.PathLike) -> str:
    """`SAVED_MODEL`, `ONNX` or `CHECKPOINT`, detected from the content.

    Raises:
        ExportError: none of them.
    """
    path = Path(path)
    if path.is_dir():
        if (path / PB).is_file():
            return SAVED_MODEL
        raise ExportError(f"{path} is not a SavedModel: it holds no saved_model.pb. {_EXPORT}")
    require_file(path, "a SavedModel's folder, an ONNX file or a checkpoint", ExportError, _EXPORT)
    with open(path, "rb") as file:
        start = file.read(9)
    # safetensors: the header's length as uint64, then JSON. ONNX: a protobuf whose first field, ir_version, is number 1.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return CHECKPOINT
    if start[:1] == b"\x08":
        return ONNX
    raise ExportError(
        f"{path} is neither a SavedModel's folder nor an ONNX file nor a checkpoint (.safetensors); "
        f"it starts with {start!r}. Import published weights with `python -m zoo.import_weights`. {_EXPORT}"
    )


class OnnxDescriber:
    """An exported ONNX file in ONNX Runtime, as `retrieval.describer.Describer`.

    Raises:
        ExportError: not a readable ONNX file, or without the spec in its metadata.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        try:
            from export.onnx_file import read_onnx
            from export.onnx_runtime import run, session
        except ImportError as error:
            raise _missing("onnxruntime", "export", error) from error
        try:
            read_onnx(path)
            self._run, self._session = run, session(path)
            metadata = self._session.get_modelmeta().custom_metadata_map
            spec = read_spec(parse_json(metadata["spec"], "its spec"))
        except KeyError:
            raise ExportError(
                f"{path} has no landmark-zoo spec in its metadata, so its input is unknown. {_EXPORT}"
            ) from None
        except ExportError:
            raise
        except (SpecError, DataError) as error:
            raise ExportError(f"{path} has a spec in its metadata that does not parse: {error}. {_EXPORT}") from error
        except Exception as error:  # ONNX Runtime's own classes have no public base
            raise ExportError(f"{path} is not a readable ONNX file: {error}. {_EXPORT}") from error
        self._preprocess = spec.preprocess
        self.inputs = (Resized.of(spec.preprocess),)
        self.source = {
            "model": spec.name,
            "framework": "onnxruntime",
            "size": spec.preprocess.size,
            "checkpoint": metadata.get("checkpoint_sha256"),
            "specs": [spec.to_dict()],
            "file": file_sha256(
                path
            ),  # it may have been quantised, and then an interrupted embedding must not continue
        }

    def __call__(self, batch: Batch) -> np.ndarray:
        return self._run(self._session, normalise(batch[self.inputs[0]], self._preprocess))[0]


class SavedModelDescriber:
    """A SavedModel in the current TensorFlow, by its batch signature, as `retrieval.describer.Describer`.

    Raises:
        ExportError: not a SavedModel, without one of the two signatures, or with a manifest that contradicts them.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._loaded, manifest = load(folder), read_manifest(folder)
        found = _inputs(self._loaded)
        if manifest is None:  # an export of version 0.1, which says it in the names of its inputs
            self.inputs = tuple(Resized(*read_batch_input(name)) for name in found)
            self.source = {
                "model": os.fsencode(folder).decode("utf-8", "backslashreplace"),
                "framework": "tensorflow",
                "size": max(self.inputs).size,
                "checkpoint": saved_model_sha256(folder),
            }
            return
        self.inputs = tuple(Resized(*wanted) for wanted in manifest.inputs)
        expected = sorted(batch_input(*wanted) for wanted in self.inputs)
        if expected != found:
            raise ExportError(
                f"{folder}: its manifest asks for the inputs {expected}, its signature for {found}. {_EXPORT}"
            )
        self.source = {
            "model": manifest.name,
            "framework": "tensorflow",
            "size": max(self.inputs).size,
            "specs": [source.spec.to_dict() for source in manifest.sources],
        } | model_identity(manifest)

    def __call__(self, batch: Batch) -> np.ndarray:
        return _call(self._loaded, {batch_input(*wanted): batch[wanted] for wanted in self.inputs})


def _missing(package: str, extra: str, error: ImportError) -> MissingToolError:
    return MissingToolError(
        f"{package} cannot be imported ({error}). Install it with `pip install 'landmark-zoo[{extra}]'`."
    )


def load(folder: str | os.PathLike) -> Any:
    """The loaded SavedModel.

    Raises:
        ExportError: not a SavedModel, or without one of the two signatures.
    """
    if not Path(folder, PB).is_file():
        raise ExportError(f"{folder} is not a SavedModel: it holds no saved_model.pb. {_EXPORT}")
    with open_saved_model(Path(folder)) as graph:
        require_no_side_effects(graph, Path(folder))
        try:
            require_small_functions(graph)
        except Exception as error:  # TensorFlow raises what its parts raise: KeyError, ValueError, its own classes
            raise ExportError(f"{folder} was not loaded: {' '.join(str(error).split())[:300]}. {_EXPORT}") from error
    with quiet_stderr():
        try:
            import tensorflow as tf
        except ImportError as error:
            raise _missing("TensorFlow", "export", error) from error
        try:
            loaded = tf.saved_model.load(os.fspath(folder))
        except Exception as error:  # TensorFlow raises what its parts raise: KeyError, IndexError, its own classes
            raise ExportError(
                f"{folder} cannot be loaded by TensorFlow {tf.__version__}: {' '.join(str(error).split())[:300]}. {_EXPORT}"
            ) from error
    missing = {CONTEST_SIGNATURE, BATCH_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise ExportError(f"{folder} has no signature {sorted(missing)[0]!r}. {_EXPORT}")
    return loaded


@functools.lru_cache(maxsize=1)
def _last_loaded(folder: str, changed: int) -> Any:
    return load(folder)


def _cached(folder: str | os.PathLike) -> Any:
    """The last SavedModel is kept until another one or a newer one is asked for: loading takes seconds."""
    proto = Path(folder, PB)
    return _last_loaded(os.fspath(folder), proto.stat().st_mtime_ns if proto.is_file() else 0)


def batch_inputs(folder: str | os.PathLike) -> list[str]:
    """The names of the batch signature's inputs, one per way of resizing (`zoo.signature.batch_input`)."""
    return _inputs(_cached(folder))


def call_batch(folder: str | os.PathLike, resized: Mapping[str, np.ndarray]) -> np.ndarray:
    """Descriptors float32 [N, D] of one batch, given as {input name: float32 [N, size, size, 3]}."""
    return _call(_cached(folder), resized)


def _inputs(loaded: Any) -> list[str]:
    return sorted(loaded.signatures[BATCH_SIGNATURE].structured_input_signature[1])


def _call(loaded: Any, resized: Mapping[str, np.ndarray]) -> np.ndarray:
    import tensorflow as tf

    inputs = {name: tf.convert_to_tensor(pixels) for name, pixels in resized.items()}
    try:
        return loaded.signatures[BATCH_SIGNATURE](**inputs)[DESCRIPTOR].numpy()
    except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"the SavedModel cannot be run on its own inputs: {' '.join(str(error).split())[:300]}. {_EXPORT}"
        ) from error
