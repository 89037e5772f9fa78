"""The command line of `torch_models.write_weights` and `paddle_models.write_weights`."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.arguments import given_path
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import log
from zoo.disk import require_room
from zoo.files import new_file, output_file
from zoo.specs import HeadSpec, LossSpec, ModelSpec, PreprocessSpec
from zoo.variants import VARIANTS
from zoo.weights import exponent_name


def main(
    framework: str, suffix: str, libraries: Sequence[str], write: Callable[[Checkpoint, bool, Path], None]
) -> None:
    """Parses the arguments, writes the file atomically and prints its path.

    Args:
        framework: `torch` or `paddle`.
        suffix: of the framework's files.
        libraries: whose names the backbone's tensors have, as `Variant.equals` spells them.
        write: writes a checkpoint's tensors, or only its backbone's, to a path.
    """
    parser = argparse.ArgumentParser(
        description=f"""Writes a checkpoint as a state dict of {framework}, for code outside of this project.

Examples:
    python -m {framework}_models.write_weights --ckpt resnest50.safetensors --out resnest50{suffix}
    python -m {framework}_models.write_weights --ckpt resnest50.safetensors --backbone --out backbone{suffix}

With --backbone the names are those of {", ".join(libraries)}; a line says which of their networks compute the same.
`zoo.import_weights` reads both back, with the options that are printed.""",
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
    if arguments.backbone:
        log(_loaded_by(checkpoint.spec, libraries))
    log(_forgotten(checkpoint, backbone=arguments.backbone))
    print(arguments.out)


def _loaded_by(spec: ModelSpec, libraries: Sequence[str]) -> str:
    """Which networks of the libraries compute what the backbone computes."""
    same = [name for row in VARIANTS.values() if row.backbone == spec.backbone for name in row.equals]
    if theirs := [name for name in same if name.partition(" ")[0] in libraries]:
        return f"without their classifiers, these load the file and compute the same: {', '.join(theirs)}"
    return (
        f"no network of {', '.join(libraries)} is known to compute the same as this backbone: one whose tensors fit loads the file, "
        "and computes something else"
    )


def _changed(spec: ModelSpec) -> dict[str, Any]:
    """The backbone's fields that are not those of the variant of its name."""
    usual = VARIANTS[spec.name].backbone if spec.name in VARIANTS else spec.backbone
    ours = dataclasses.asdict(spec.backbone)
    return {name: ours[name] for name, value in dataclasses.asdict(usual).items() if ours[name] != value}


def _forgotten(checkpoint: Checkpoint, *, backbone: bool) -> str:
    """What a state dict has no place for, as the options of `zoo.import_weights`."""
    spec, own = checkpoint.spec, checkpoint.spec.preprocess
    changed = _changed(spec)
    words = [f"--model {spec.name}"] if spec.name in VARIANTS else []
    words += ["--headless"] if backbone else _head_options(spec.head)
    stated = [name for name in ("last_stride", "stem_pool") if name in changed]
    words += [f"--{name.replace('_', '-')} {changed.pop(name)}" for name in stated]
    words += [f"--size {own.size}", f"--channels {own.channels}"]
    words += [f"--{name} {' '.join(map(str, getattr(own, name)))}" for name in ("mean", "std")]
    words += [f"--resize {own.resize}"] if own.resize != PreprocessSpec().resize else []
    if not backbone:
        changed |= _without_option(checkpoint)
    parts = "preprocessing" if backbone else "preprocessing, pooling and loss"
    said = f"a state dict does not say its model's {parts}; `zoo.import_weights` needs {' '.join(words)}"
    if not changed:
        return said
    values = ", ".join(f"{name} {value}" for name, value in changed.items())
    return f"{said}\nno option states {values}: import the file in Python, with the checkpoint's spec"


def _head_options(head: HeadSpec) -> list[str]:
    """The options that state what a head's tensors do not tell."""
    words = [] if exponent_name(head) == "pool.p" else [f"--pool {head.pool}"]
    return words + (["--l2-before-neck"] if head.l2_before_neck else [])


def _without_option(checkpoint: Checkpoint) -> dict[str, Any]:
    """What neither the tensors nor an option tell of a head and of a loss whose class weights are in the file."""
    head, loss, usual = checkpoint.spec.head, checkpoint.spec.loss, HeadSpec()
    fixed = "gem" in head.pools and not head.gem_p_learned
    found: dict[str, Any] = {"gem_p": head.gem_p} if fixed and head.gem_p != usual.gem_p else {}
    found |= {"l2": head.l2} if head.l2 != usual.l2 else {}
    if head.neck == "bn_linear" and head.embedding_size == checkpoint.spec.features:
        found["neck"] = head.neck
    return found | ({"loss": loss} if checkpoint.classes and loss != LossSpec() else {})
