"""Normal forms → SavedModels in one process.

Example:
    python -m parity_tests.convert_worker a/normal_form.onnx a/saved_model b/normal_form.onnx b/saved_model
"""

import sys
from pathlib import Path

from export.writer.convert import save_normal_form


def main() -> None:
    """Command line: pairs of an ONNX file and a folder to make."""
    for normal_form, folder in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        save_normal_form(Path(normal_form), Path(folder))


if __name__ == "__main__":
    main()
