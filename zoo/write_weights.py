"""The command line of `torch_models.write_weights` and `paddle_models.write_weights`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from zoo.arguments import given_path
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import log
from zoo.disk import require_room
from zoo.files import new_file, output_file
from zoo.specs import PreprocessSpec


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
    with output_file(arguments.out, [arguments.ckpt]):
        checkpoint = load_checkpoint(arguments.ckpt)
        needed = sum(value.nbytes for name, value in checkpoint.weights.items() if name.startswith("backbone."))
        require_room(arguments.out, needed, largest=needed)
        with new_file(arguments.out) as partial:
            write(checkpoint, arguments.backbone, partial)
    log(_forgotten(checkpoint, arguments.backbone))
    print(arguments.out)


def _forgotten(checkpoint: Checkpoint, backbone: bool) -> str:
    """What a state dict has no place for, as the options of `zoo.import_weights`."""
    own, usual = checkpoint.spec.preprocess, PreprocessSpec()
    words = [f"--size {own.size}", f"--channels {own.channels}"]
    words += [f"--{name} {' '.join(map(str, getattr(own, name)))}" for name in ("mean", "std")]
    words += [f"--resize {own.resize}"] if own.resize != usual.resize else []
    parts = "preprocessing" if backbone else "preprocessing, head and loss"
    return f"a state dict does not say its model's {parts}; `zoo.import_weights` needs {' '.join(words)}"
