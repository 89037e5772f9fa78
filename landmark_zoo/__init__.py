"""landmark-zoo in Python: networks, export to TensorFlow 2.2, descriptors, search.

Example:
    >>> import landmark_zoo as lz
    >>> lz.list_models("resnest*269*")
    ['resnest269', 'resnest269_paddleclas']
    >>> lz.get_spec("resnest50").embedding_size
    512

Importing this package imports no framework. A function imports what it needs when it is called, and raises
`MissingToolError` with the command to run if that is not installed.
"""

from typing import TYPE_CHECKING, Any

from zoo.errors import (
    CheckpointError,
    DataError,
    ExportError,
    MissingToolError,
    OutputError,
    ParityError,
    RecipeError,
    SpecError,
    SubmissionError,
    ZooError,
)

if TYPE_CHECKING:
    from landmark_zoo.api import (
        Embedder,
        check,
        compare,
        create_model,
        ensemble,
        evaluate,
        export,
        export_onnx,
        get_spec,
        list_models,
        load,
        search,
    )

    __version__: str

_FUNCTIONS = (
    "Embedder",
    "check",
    "compare",
    "create_model",
    "ensemble",
    "evaluate",
    "export",
    "export_onnx",
    "get_spec",
    "list_models",
    "load",
    "search",
)

__all__ = [
    "CheckpointError",
    "DataError",
    "Embedder",
    "ExportError",
    "MissingToolError",
    "OutputError",
    "ParityError",
    "RecipeError",
    "SpecError",
    "SubmissionError",
    "ZooError",
    "__version__",
    "check",
    "compare",
    "create_model",
    "ensemble",
    "evaluate",
    "export",
    "export_onnx",
    "get_spec",
    "list_models",
    "load",
    "search",
]


def __getattr__(name: str) -> Any:
    """Imports a function of `landmark_zoo.api` when it is first used (PEP 562)."""
    if name in _FUNCTIONS:
        from landmark_zoo import api

        value = getattr(api, name)
    elif name == "__version__":
        from zoo.manifest import versions

        value = versions("landmark-zoo")["landmark-zoo"]
    else:
        raise AttributeError(f"module 'landmark_zoo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
