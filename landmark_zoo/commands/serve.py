"""`landmark-zoo serve`."""

from pathlib import Path
from typing import Literal

from landmark_zoo import extras
from landmark_zoo.commands import Port


def serve(
    *,
    model: Path,
    store: Path,
    data: Path | None = None,
    framework: Literal["torch", "paddle"] | None = None,
    host: str = "127.0.0.1",
    port: Port = 8000,
) -> None:
    """Serve a page in the browser that finds the index images nearest to a photograph. Ctrl-C stops it.

    Args:
        model: a SavedModel's folder, an ONNX file or a checkpoint.
        store: a store or an embeddings file, made with --model.
        data: the data set of the store; default: ids are shown, no images.
        framework: for a checkpoint; default: the one that trained it.
        host: where to listen; the default is this machine only.
        port: 0 takes a free one.
    """
    with extras.explained():
        from export.serve import serve_model

        serve_model(model, store, data, framework, host, port)
