"""A real TensorFlow 2.2.0, in its own environment and process."""

from export.tf22.environment import TENSORFLOW
from export.tf22.runner import (
    PYTHON_VARIABLE,
    Call,
    find_python,
    require_python,
    run_calls,
    score,
)

__all__ = ["PYTHON_VARIABLE", "TENSORFLOW", "Call", "find_python", "require_python", "run_calls", "score"]
