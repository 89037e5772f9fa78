"""Options that say which network is exported: a checkpoint, or an ONNX file from elsewhere."""

import argparse
from collections.abc import Mapping

from zoo.arguments import PREPROCESSING, add_preprocess_options, given_path, ranged
from zoo.constants import FRAMEWORKS
from zoo.errors import SpecError
from zoo.strict import Pixels

_ONLY_OF = {"ckpt": ("framework", "check_sizes"), "onnx": (*PREPROCESSING, "name", "output")}
"""Options that belong to one kind of network only."""


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Adds --ckpt, --onnx, --size and the options that one of the two has."""
    parser.add_argument("--ckpt", type=given_path, help="a landmark-zoo checkpoint from either framework")
    parser.add_argument("--onnx", type=given_path, help="instead: an ONNX file of any convolutional network")
    parser.add_argument(
        "--size",
        type=ranged(Pixels),
        help="side in pixels that served images are resized to; default: the spec's; needed for --onnx",
    )
    checkpoints = parser.add_argument_group("for --ckpt")
    checkpoints.add_argument(
        "--framework", choices=FRAMEWORKS, help="whose exporter to use; default: the one that trained it"
    )
    checkpoints.add_argument(
        "--check-sizes", type=ranged(Pixels), nargs="+", default=[], help="sides in pixels to measure parity at as well"
    )
    foreign = parser.add_argument_group("for --onnx")
    add_preprocess_options(foreign)
    foreign.add_argument("--name", help="of the network in manifests and tables; default: the file's")
    foreign.add_argument(
        "--output", metavar="TENSOR", help="the tensor that is its descriptor; default: its only output"
    )


def require_fitting(options: Mapping[str, object]) -> None:
    """Raises `SpecError` unless the command has one network, and only options that such a network has.

    Args:
        options: the values of `parse_arguments`' options, by name; None or empty if not given.
    """
    given = {key for key, value in options.items() if value}
    found = [kind for kind in _ONLY_OF if kind in given]
    if len(found) != 1:
        raise SpecError(
            f"expected either --ckpt, a checkpoint, or --onnx, a network from elsewhere; found {' and '.join(found) or 'none'}. "
            "`landmark-zoo export --help` explains both."
        )
    [own], [other] = found, _ONLY_OF.keys() - found
    if foreign := [name for name in _ONLY_OF[other] if name in given]:
        raise SpecError(f"--{foreign[0].replace('_', '-')} belongs to --{other}; leave it out with --{own}.")
    if own == "onnx" and "size" not in given:
        raise SpecError("--onnx needs --size, the side in pixels of the images that the network was trained with.")
