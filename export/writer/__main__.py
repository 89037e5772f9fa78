"""Normal form → SavedModel with the contest's signature, which TensorFlow 2.2 loads and runs.

Example:
    python -m export.writer --onnx resnest/normal_form.onnx --out saved_model
    python -m export.writer --converter onnx2tf --onnx resnest/normal_form.onnx --out saved_model
"""

import argparse

from export.storage import CONVERTERS, Storage, add_storage_options
from export.writer.convert import save_normal_form
from export.writer.onnx2tf import save_with_onnx2tf
from zoo.arguments import given_path
from zoo.command import run
from zoo.files import output_folder

CONVERT = dict(zip(CONVERTERS, (save_normal_form, save_with_onnx2tf), strict=True))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=given_path, help="a normal form; its metadata has the spec")
    parser.add_argument("--out", required=True, type=given_path, help="folder to make")
    parser.add_argument(
        "--converter",
        choices=CONVERTERS,
        default=CONVERTERS[0],
        help="what makes the SavedModel: the project's own writer, or onnx2tf; default: %(default)s",
    )
    add_storage_options(parser)
    return parser.parse_args()


def main() -> None:
    """Command line: nothing is measured here; `export/to_savedmodel.py` does it."""
    arguments = parse_arguments()
    with output_folder(arguments.out, [arguments.onnx]):
        CONVERT[arguments.converter](arguments.onnx, arguments.out, Storage.given(arguments))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
