"""Which extra of the project installs a third-party package, and the error for one that is missing."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.errors import MissingToolError

EXTRAS = {
    "torch": "torch",
    "paddle": "paddle,cpu",
    "paddle2onnx": "paddle,cpu",
    "onnxoptimizer": "paddle,cpu",
    "faiss": "retrieval,cpu",
    "jinja2": "retrieval",
    "psutil": "retrieval",
    "openTSNE": "map",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "ray": "cluster",
    "onnx": "export",
    "onnxsim": "export",
    "onnx_graphsurgeon": "export",
    "onnxruntime": "export",
    "tensorflow": "export",
    "google": "export",  # google.protobuf, which TensorFlow installs
    "onnx2tf": "onnx2tf",
    "tf_keras": "onnx2tf",
}
"""Imported package → the extras that install it. `cpu` stands for `cpu` or `gpu`."""


@contextmanager
def explained() -> Iterator[None]:
    """Turns the failed import of an optional package into an error that names the command to install it.

    Raises:
        MissingToolError: an optional package is missing. Any other failed import passes through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise _missing(package) from None


def require(*packages: str) -> None:
    """Checks that packages are installed, without importing them: for work that child processes do.

    Raises:
        MissingToolError: one of them is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise _missing(package)


def _missing(package: str) -> MissingToolError:
    extras = EXTRAS[package]
    gpu = " (or `gpu` instead of `cpu`)" if "cpu" in extras else ""
    return MissingToolError(
        f"this needs the package {package}, which is not installed. Run: pip install 'landmark-zoo[{extras}]'{gpu}; "
        f"in a clone: pip install -e '.[{extras}]'"
    )
