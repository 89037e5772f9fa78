"""Converts published weights to a checkpoint that loads in both frameworks. Nothing in the file is executed.

Examples:
    python -m zoo.import_weights resnest50d-528c19ca.pth --model resnest50 --headless --out resnest50.safetensors
    python -m zoo.import_weights Res2Net200_vd_26w_4s_pretrained.pdparams --model res2net200_vd --headless --out r.safetensors

Reads .pth and .safetensors files from torchvision, timm, ResNeSt, Res2Net and IBN-Net, .pdparams files from PaddleClas
and paddle.vision, and files written by `torch_models.write_weights` and `paddle_models.write_weights`. --model is a
variant of the zoo or a published name ("timm resnest50d", "PaddleClas ResNeSt50"); docs/models.md lists both.
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from zoo.checkpoint import Checkpoint, differences, save_checkpoint, shown
from zoo.command import log, run
from zoo.errors import CheckpointError
from zoo.published.files import read_published
from zoo.published.names import canonical_names, is_classifier, publishers
from zoo.specs import BackboneSpec, ModelSpec, PreprocessSpec
from zoo.variants import SPECS, VARIANTS, get_spec
from zoo.weights import LOSS_PREFIX, parameter_shapes


def import_weights(source: Path, spec: ModelSpec, *, headless: bool = False) -> Checkpoint:
    """Reads a published file as a checkpoint.

    Args:
        source: .pth, .pt, .pdparams or .safetensors.
        spec: the model that the weights belong to.
        headless: import only the backbone and drop the classifier; the average-pooled features become the descriptor.

    Raises:
        CheckpointError: the file cannot be read without executing it, or its tensors are not exactly the model's. The
            message lists the differences and the models that would fit.
    """
    published, framework = read_published(source)
    spec = spec.headless() if headless else spec
    weights, names = _canonical(published, spec.backbone, framework)
    if headless:
        weights = {name: value for name, value in weights.items() if not is_classifier(name)}
    classes = 0
    if f"{LOSS_PREFIX}weight" in weights:
        classes = len(weights[f"{LOSS_PREFIX}weight"]) // spec.loss.sub_centers
    expected = parameter_shapes(spec, classes)
    if found := differences(expected, weights, names):
        raise CheckpointError(_misfit(source, spec, found, published, framework, headless))
    if not _may_be(spec.name, published) and (others := fitting_models(published, framework)):
        raise CheckpointError(
            f"{source} has the tensors of {spec.name}, but under the names of another library, whose network with the same "
            f"tensors computes something else. Pass --model {' or '.join(others)}."
        )
    provenance = {"framework": framework, "imported_from": source.name, "source_sha256": _sha256(source)}
    return Checkpoint(spec, {name: weights[name] for name in expected}, classes, provenance)


def _canonical(
    published: dict[str, np.ndarray], backbone: BackboneSpec, framework: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors as float32 in PyTorch's layout by canonical name, and {canonical name: the file's name}."""
    weights, names = {}, {}
    for theirs, ours in canonical_names(published, backbone).items():
        if ours in weights:
            raise CheckpointError(
                f"the file's {names[ours]} and {theirs} are both the model's {ours}; remove one of them from the file"
            )
        value = published[theirs].astype(np.float32, copy=False)
        if framework == "paddle" and ours.endswith("linear.weight"):
            value = value.T  # Paddle keeps it as [in, out]
        weights[ours], names[ours] = value, theirs
    return weights, names


def _misfit(
    source: Path,
    spec: ModelSpec,
    found: list[str],
    published: dict[str, np.ndarray],
    framework: str,
    headless: bool,
) -> str:
    fitting = fitting_models(published, framework)
    if spec.name in fitting and not headless:
        advice = "The backbone fits, but the file has no embedding layer: pass --headless to import only the backbone."
    elif fitting:
        advice = f"Its backbone fits --model {' or '.join(fitting)}."
    else:
        advice = "No variant of the zoo has this backbone."
    return f"{source} does not contain the tensors of {spec.name}:\n  {shown(found)}\n{advice}"


def _may_be(name: str, published: dict[str, np.ndarray]) -> bool:
    """Whether a library that uses these tensor names publishes this variant; True if the names do not tell."""
    if name not in VARIANTS:
        return True
    theirs = publishers(published, SPECS[name].backbone)
    equals = {source.partition(" ")[0] for source in VARIANTS[name].equals}
    return theirs is None or not equals or bool(theirs & equals)


def fitting_models(published: dict[str, np.ndarray], framework: str) -> list[str]:
    """The variants whose backbone has exactly these tensors and that a library with these names publishes."""
    fitting = []
    for name in VARIANTS:
        spec = SPECS[name].headless()
        weights, _ = _canonical(published, spec.backbone, framework)
        shapes = {name: value.shape for name, value in weights.items() if not is_classifier(name)}
        if shapes == parameter_shapes(spec) and _may_be(name, published):
            fitting.append(name)
    return fitting


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help=".pth, .pt, .pdparams or .safetensors")
    parser.add_argument("--model", required=True, help="the variant, by its name in the zoo or a published one")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write (.safetensors)")
    parser.add_argument(
        "--headless", action="store_true", help="only the backbone: its average-pooled features become the descriptor"
    )
    preprocessing = parser.add_argument_group(
        "preprocessing that the weights were trained with, if it is not ImageNet's usual"
    )
    default = PreprocessSpec()
    preprocessing.add_argument("--size", type=int, default=default.size, help="side in pixels; default: %(default)s")
    preprocessing.add_argument(
        "--channels", choices=("rgb", "bgr"), default=default.channels, help="channel order; default: %(default)s"
    )
    preprocessing.add_argument("--mean", type=float, nargs=3, help="per channel in that order, for pixels from 0 to 1")
    preprocessing.add_argument("--std", type=float, nargs=3, help="per channel in that order, for pixels from 0 to 1")
    preprocessing.add_argument(
        "--resize", choices=("antialias", "bilinear"), default=default.resize, help="filter; default: %(default)s"
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    usual = PreprocessSpec(arguments.size, resize=arguments.resize).in_order(arguments.channels)
    given = {key: tuple(value) for key in ("mean", "std") if (value := getattr(arguments, key))}
    preprocess = dataclasses.replace(usual, **given)
    spec = dataclasses.replace(get_spec(arguments.model), preprocess=preprocess)
    checkpoint = import_weights(arguments.source, spec, headless=arguments.headless)
    save_checkpoint(arguments.out, checkpoint)
    count = sum(value.size for value in checkpoint.weights.values())
    log(f"{spec.name}: {len(checkpoint.weights)} tensors, {count:,} values, from {checkpoint.provenance['framework']}")
    print(arguments.out)


if __name__ == "__main__":
    run(main)
