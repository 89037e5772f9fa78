"""A store of the descriptors of a whole split from a SavedModel, an ONNX file or a checkpoint.

Examples:
    python -m export.embed ensemble/saved_model --data DATA --split index --out index_store
    python -m export.embed resnet50/normal_form.onnx --data DATA --split test --out test_store

Run it again to continue. To share the work, give processes on any machines that see the same folders --shard 0/4 to 3/4.
"""

import argparse
from functools import partial

from export.embedder import open_describer
from retrieval.embed import add_data_arguments, embed_at_the_door
from zoo.arguments import given_path, ranged
from zoo.command import run
from zoo.constants import FRAMEWORKS
from zoo.strict import Count


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("model", nargs="?", type=given_path, help="a SavedModel's folder, an ONNX file or a checkpoint")
    model.add_argument("--saved-model", type=given_path, help="the same as the positional argument")
    parser.add_argument("--framework", choices=FRAMEWORKS, help="for a checkpoint; default: the one that trained it")
    parser.add_argument("--data", required=True, type=given_path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--out", required=True, type=given_path, help="the store to write or to continue")
    add_data_arguments(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="compute on a Ray cluster: its address, auto, or local; default: in this process",
    )
    parser.add_argument(
        "--cpus-per-worker",
        type=ranged(Count),
        help="with --cluster; default: a GPU's share, or those of the smallest machine",
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    given = vars(parse_arguments())
    model, other_name = given.pop("model"), given.pop("saved_model")
    framework, data, split, out = (given.pop(name) for name in ("framework", "data", "split", "out"))
    model = model or other_name
    embed_at_the_door(partial(open_describer, model.absolute(), framework), model, data, split, out, **given)
    print(out)


if __name__ == "__main__":
    run(main)
