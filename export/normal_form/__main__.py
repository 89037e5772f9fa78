"""A framework's own ONNX file → the normal form.

Example:
    python -m export.normal_form --onnx resnest/model.onnx --out resnest/normal_form.onnx
"""

import argparse
from pathlib import Path

import onnx

from export.normal_form.rewrites import normal_form
from zoo.command import run
from zoo.files import new_file


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--onnx", required=True, type=Path, help="a framework's own export, as `export.to_onnx` makes it"
    )
    parser.add_argument("--out", required=True, type=Path, help="the ONNX file to write")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    model = normal_form(onnx.load(arguments.onnx))
    with new_file(arguments.out) as partial:
        onnx.save(model, partial)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
