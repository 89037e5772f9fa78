"""Errors that a user can act on.

Each message names the file, what was expected, what was found and the next command to run. A command line prints the
message without a traceback and exits with status 2 (`zoo.command.run`).
"""


class ZooError(Exception):
    """Base of every error that landmark-zoo raises on purpose."""


class SpecError(ZooError):
    """A model name or a spec that the zoo does not know."""


class CheckpointError(ZooError):
    """A checkpoint that cannot be read, or whose tensors do not fit its spec."""


class RecipeError(ZooError):
    """A recipe with an unknown key, a missing key or a value out of range."""


class DataError(ZooError):
    """A data set with a missing file, a broken image or a table that does not parse."""


class OutputError(ZooError):
    """An output place that already holds something, or cannot be written."""


class ExportError(ZooError):
    """An ONNX file or a SavedModel that could not be made."""


class ParityError(ZooError):
    """Two sides of a parity arrow that differ by more than the tolerance table allows."""


class MissingToolError(ZooError):
    """Something outside the project that is needed and missing, such as Python 3.8 for TensorFlow 2.2."""


class SubmissionError(ZooError):
    """A submission that the contest or Kaggle's upload would refuse."""
