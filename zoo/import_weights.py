"""Published weights → our checkpoint, for both frameworks; nothing in the file is executed.

Examples:
    python -m zoo.import_weights resnest50d-528c19ca.pth --model resnest50 --headless --out resnest50.safetensors
    python -m zoo.import_weights Res2Net200_vd_26w_4s_pretrained.pdparams --model res2net200_vd --headless --out r.safetensors

Reads torchvision's, timm's, ResNeSt's, Res2Net's and IBN-Net's .pth and .safetensors, PaddleClas' and paddle.vision's
.pdparams, and what `torch_models.write_weights` and `paddle_models.write_weights` wrote. --model is a name of ours or a
published one ("timm resnest50d", "PaddleClas ResNeSt50"); the README's table has them all.
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
    """A checkpoint of ours from a published file.

    Args:
        source: .pth, .pt, .pdparams or .safetensors.
        spec: the model that the weights are of.
        headless: take the backbone alone; its averaged features are the descriptor. The classifier is left out.

    Raises:
        CheckpointError: the file cannot be read without executing it, or its tensors are not exactly the model's; the
            message shows how they differ and which models they would fit.
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
            f"{source} has the tensors of {spec.name}, but under the names of another library, whose network of these "
            f"tensors computes something else. Pass --model {' or '.join(others)}."
        )
    provenance = {"framework": framework, "imported_from": source.name, "source_sha256": _sha256(source)}
    return Checkpoint(spec, {name: weights[name] for name in expected}, classes, provenance)


def _canonical(
    published: dict[str, np.ndarray], backbone: BackboneSpec, framework: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors as float32 in our layout by our names, and what the file called each of them."""
    weights, names = {}, {}
    for theirs, ours in canonical_names(published, backbone).items():
        if ours in weights:
            raise CheckpointError(f"the file's {names[ours]} and {theirs} are both {ours}; keep one of them")
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
        advice = "The backbone fits; the file has no embedding of ours: pass --headless."
    elif fitting:
        advice = f"The backbone is that of --model {' or '.join(fitting)}."
    else:
        advice = "No variant of the zoo has this backbone."
    return f"{source} does not hold the tensors of {spec.name}:\n  {shown(found)}\n{advice}"


def _may_be(name: str, published: dict[str, np.ndarray]) -> bool:
    """Whether the library that uses these names publishes this variant, as far as the names can tell."""
    if name not in VARIANTS:
        return True
    theirs = publishers(published, SPECS[name].backbone)
    equals = {source.partition(" ")[0] for source in VARIANTS[name].equals}
    return theirs is None or not equals or bool(theirs & equals)


def fitting_models(published: dict[str, np.ndarray], framework: str) -> list[str]:
    """The variants whose backbones have exactly these tensors, and that a library with these names publishes."""
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
    parser.add_argument("--model", required=True, help="the variant, by our name or a published one")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write (.safetensors)")
    parser.add_argument(
        "--headless", action="store_true", help="the backbone alone: its averaged features are the descriptor"
    )
    preprocessing = parser.add_argument_group("what the weights were trained with, if not ImageNet's usual")
    default = PreprocessSpec()
    preprocessing.add_argument("--size", type=int, default=default.size, help="side in pixels; default: %(default)s")
    preprocessing.add_argument("--channels", choices=("rgb", "bgr"), default=default.channels)
    preprocessing.add_argument("--mean", type=float, nargs=3, help="of each channel in that order, 0 to 1")
    preprocessing.add_argument("--std", type=float, nargs=3, help="of each channel in that order, 0 to 1")
    preprocessing.add_argument("--resize", choices=("antialias", "bilinear"), default=default.resize)
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
