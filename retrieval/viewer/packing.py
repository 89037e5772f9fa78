"""Values as text in a page: JSON that cannot end its element, and arrays in base64, which a browser reads at once."""

import base64
import json
from typing import Any

import numpy as np

KINDS = {
    "int32": "Int32Array",
    "uint32": "Uint32Array",
    "uint16": "Uint16Array",
    "uint8": "Uint8Array",
    "float32": "Float32Array",
}
"""numpy's type → JavaScript's."""


def packed(array: np.ndarray) -> dict[str, str]:
    """An array's numbers, little-endian, in C order; its shape is the reader's to know."""
    kind = KINDS[array.dtype.name]
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {"kind": kind, "data": base64.b64encode(data).decode("ascii")}


def script_json(value: Any) -> str:
    """JSON for a <script> element. No text in it can end the element or begin a comment, and none is lost."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
