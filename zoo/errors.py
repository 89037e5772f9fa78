"""Errors that a user can act on.

Each message names the file, what was expected, what was found and what to do next. Command lines print the message
without a traceback and exit with status 2 (`zoo.command.run`).
"""


class ZooError(Exception):
    """Base of every error that landmark-zoo raises on purpose."""


class SpecError(ZooError):
    """An unknown model name, or a spec with an unknown key or a value out of range."""


class CheckpointError(ZooError):
    """A checkpoint that cannot be read, or whose tensors do not fit its spec."""


class RecipeError(ZooError):
    """A recipe with an unknown key, a missing key or a value out of range."""


class DataError(ZooError):
    """A missing file, an unreadable image or a table that does not parse."""


class OutputError(ZooError):
    """An output path that already exists or cannot be written."""


class ExportError(ZooError):
    """An ONNX file or a SavedModel could not be made or read."""


class ParityError(ZooError):
    """Two stages of an export return descriptors that differ by more than the tolerance table allows."""


class MissingToolError(ZooError):
    """A missing external tool, such as Python 3.8 for TensorFlow 2.2."""


class SubmissionError(ZooError):
    """A submission that the contest or Kaggle's upload would reject."""
