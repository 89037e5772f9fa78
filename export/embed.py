"""Descriptors of a whole split from a SavedModel, an ONNX file or a checkpoint.

Examples:
    python -m export.embed ensemble/saved_model --data DATA --split index --out index.safetensors
    python -m export.embed resnet50/normal_form.onnx --data DATA --split test --out test.safetensors
"""

import argparse

from export.embedder import open_describer
from retrieval.data.gldv2 import Gldv2
from retrieval.embed import add_data_arguments, embed_split
from zoo.arguments import given_path
from zoo.command import run
from zoo.constants import FRAMEWORKS
from zoo.files import output_file


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("model", nargs="?", type=given_path, help="a SavedModel's folder, an ONNX file or a checkpoint")
    model.add_argument("--saved-model", type=given_path, help="the same as the positional argument")
    parser.add_argument("--framework", choices=FRAMEWORKS, help="for a checkpoint; default: the one that trained it")
    parser.add_argument("--data", required=True, type=given_path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--out", required=True, type=given_path, help="embeddings to write (.safetensors)")
    add_data_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    model = arguments.model or arguments.saved_model
    data = Gldv2(arguments.data)
    with output_file(arguments.out, [model, *data.files()], around=[arguments.data]):
        describer = open_describer(model, arguments.framework)
        embed_split(describer, data, arguments.split, arguments.out, batch_size=arguments.batch_size)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
