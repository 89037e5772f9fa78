"""One thing that is wrong with a SavedModel, and what to do about it."""

import re
from dataclasses import dataclass

_SCOPES = re.compile(r"^(?:(?:Stateful)?PartitionedCall(?:_\d+)?|model(?:_\d+)?|functional(?:_\d+)?)/")
"""Scopes that TensorFlow and Keras prepend to the converter's name."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: what was expected and what was found.
        remedy: what to do about it.
        node: name of the node, or of the variable, object or signature; "" for the whole SavedModel.
        op: the node's operator.
        function: the function that the node is in; "" for the graph itself.
        rejects: True if this finding rejects the SavedModel; otherwise it is a warning.
    """

    problem: str
    remedy: str
    node: str = ""
    op: str = ""
    function: str = ""
    rejects: bool = True

    @property
    def layer(self) -> str:
        """The node's name without TensorFlow's scopes: the layer's name in the converter and the ONNX file."""
        name, before = self.node, ""
        while name != before:
            name, before = _SCOPES.sub("", name), name
        return name

    def __str__(self) -> str:
        kind = "REJECTED" if self.rejects else "note"
        where = f" {self.op} {self.layer!r}" if self.op else f" {self.node!r}" if self.node else ""
        node = f" (node {self.node!r})" if self.op and self.layer != self.node else ""
        function = f" in function {self.function!r}" if self.function else ""
        return f"{kind}{':' if where else ''}{where}{node}{function}: {self.problem}. {self.remedy}"
