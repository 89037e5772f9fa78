"""A real TensorFlow 2.2.0, or of another version, in its own environment and process."""

from export.tensorflows import TENSORFLOW
from export.tf22.environment import command_for
from export.tf22.runner import (
    PYTHON_VARIABLE,
    Call,
    find_python,
    require_python,
    run_calls,
    score,
)

__all__ = [
    "PYTHON_VARIABLE",
    "TENSORFLOW",
    "Call",
    "command_for",
    "find_python",
    "require_python",
    "run_calls",
    "score",
]
