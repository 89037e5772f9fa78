"""A framework's own ONNX file → the normal form.

Example:
    python -m export.normal_form --onnx resnest/model.onnx --out resnest/normal_form.onnx
"""

import argparse
from pathlib import Path

import onnx

from export.normal_form.imported import imported_form
from export.normal_form.rewrites import normal_form
from export.onnx_file import ADVICE, read_onnx
from export.onnx_metadata import is_imported, source_of
from export.storage import BY_SIZE
from zoo.arguments import given_path
from zoo.command import run
from zoo.errors import ExportError
from zoo.files import new_file, output_file


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--onnx", required=True, type=given_path, help="a framework's own export, as `export.to_onnx` makes it"
    )
    parser.add_argument("--out", required=True, type=given_path, help="the ONNX file to write")
    return parser.parse_args()


_UNFORESEEN = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError)
"""What surgery raises on a graph that it does not expect."""


def _rewritten(given: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    imported = is_imported(given)
    try:
        if imported:
            return imported_form(given, source_of(given, path, BY_SIZE).spec.preprocess)
        return normal_form(given)
    except _UNFORESEEN as error:
        if imported:
            raise ExportError(f"{path}: a rewrite failed: {error}. Please report this, with the file.") from error
        raise ExportError(f"{path} is not an export of this project: {error}. {ADVICE}") from error


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    with output_file(arguments.out, [arguments.onnx]):
        model = _rewritten(read_onnx(arguments.onnx), arguments.onnx)
        with new_file(arguments.out) as partial:
            onnx.save(model, partial)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
