"""The command line of `torch_models.write_weights` and `paddle_models.write_weights`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from zoo.arguments import given_path
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.files import new_file


def main(framework: str, suffix: str, whose: str, write: Callable[[Checkpoint, bool, Path], None]) -> None:
    """Parses the arguments, writes the file atomically and prints its path.

    Args:
        framework: `torch` or `paddle`.
        suffix: of the framework's files.
        whose: the libraries that the backbone's names are from, as a possessive.
        write: writes a checkpoint's tensors, or only its backbone's, to a path.
    """
    parser = argparse.ArgumentParser(
        description=f"""Writes a checkpoint as a state dict of {framework}, for code outside of this project.

Examples:
    python -m {framework}_models.write_weights --ckpt resnest50.safetensors --out resnest50{suffix}
    python -m {framework}_models.write_weights --ckpt resnest50.safetensors --backbone --out backbone{suffix}

With --backbone the names are {whose}, so their networks load the file, except for their classifier.
`zoo.import_weights` reads both back.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ckpt", required=True, type=given_path, help="a landmark-zoo checkpoint from either framework"
    )
    parser.add_argument("--out", required=True, type=given_path, help=f"the {suffix} file to write")
    parser.add_argument("--backbone", action="store_true", help="only the backbone, under its published names")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.ckpt)
    with new_file(arguments.out) as partial:
        write(checkpoint, arguments.backbone, partial)
    print(arguments.out)
