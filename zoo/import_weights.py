"""Converts published weights to a checkpoint that loads in both frameworks. Nothing in the file is executed.

Examples:
    python -m zoo.import_weights resnest50d-528c19ca.pth --model resnest50 --headless --out resnest50.safetensors
    python -m zoo.import_weights Res2Net200_vd_26w_4s_pretrained.pdparams --model res2net200_vd --headless --out r.safetensors
    python -m zoo.import_weights CVPR2022_CVNet_R50.pyth --model resnet50 --out cvnet.safetensors

Reads

- .pth and .safetensors files of torchvision, timm, ResNeSt, Res2Net, IBN-Net and pycls;
- .pdparams files of PaddleClas and paddle.vision;
- .h5, .weights.h5 and .keras files of keras.applications' ResNets;
- files of libraries of retrieval networks: cnnimageretrieval-pytorch, deep-image-retrieval, DELG, CVNet, pymetric, fast-reid and
  PaddleClas' RecModel. Without --headless, their heads come with them;
- what `torch_models.write_weights` and `paddle_models.write_weights` write.

The backbone may stand under any prefix, such as a trainer's `model.` or `module.backbone.`. --model is a variant of the zoo or a
published name ("timm resnest50d", "PaddleClas ResNeSt50"); docs/models.md lists both.
"""

import argparse
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from zoo.arguments import add_preprocess_options, given_path, ranged, stated_preprocess
from zoo.checkpoint import Checkpoint, check_preprocess, differences, save_checkpoint, shown, unusable, weight_bytes
from zoo.command import log, run
from zoo.disk import require_room
from zoo.errors import CheckpointError
from zoo.files import output_file
from zoo.limits import FITTED
from zoo.lookup import find_spec
from zoo.published.biases import fold_biases, mean_behind
from zoo.published.files import Contents, as_float32, layout, read_contents
from zoo.published.heads import NOTHING, Stated, recognised
from zoo.published.libraries import OWN, publishers
from zoo.published.names import Naming, in_trunk, naming, prefixes
from zoo.published.pickled_values import Opaque
from zoo.published.state_dicts import same
from zoo.published.strides import conflicting_stride, say_stride, with_strides
from zoo.specs import ModelSpec, Pool, PreprocessSpec
from zoo.strict import Pixels
from zoo.variants import SPECS, VARIANTS
from zoo.weights import LOSS_PREFIX, parameter_shapes

Published = Mapping[str, np.ndarray | Opaque]
_NEAR = 0.1
"""Share of a model's tensors that may differ for a file to be called nearly that model."""


def import_weights(
    source: Path,
    spec: ModelSpec,
    *,
    headless: bool = False,
    prefix: str | None = None,
    stated: Stated = NOTHING,
) -> Checkpoint:
    """Reads a published file as a checkpoint.

    The head of a library of retrieval networks (`zoo.published.libraries`) comes with it, and replaces the spec's.

    Args:
        source: .pth, .pt, .pdparams, .safetensors, .h5 or .keras.
        spec: the model that the weights belong to.
        headless: import only the backbone and leave out, with a line on stderr, what else is in the file; the average-pooled
            features become the descriptor.
        prefix: what stands before the backbone's names in the file; by default it is looked for.
        stated: the preprocessing, and what a head's tensors do not tell; what is not stated is the library's or the spec's.

    Raises:
        CheckpointError: the file cannot be read without executing it; its tensors are not exactly the model's; or they have a type
            or a value that no weight has. The message lists the differences and the models that would fit.
    """
    check_preprocess(spec.preprocess.changed(stated.preprocess))
    contents = read_contents(source, prefix)
    published, framework = contents.tensors, contents.framework
    try:
        found = naming(published, spec.backbone, parameter_shapes(spec.headless()), prefix, _same_in(published))
        known = recognised(contents, found, spec, stated, headless=headless)
        spec, found = known.spec, known.found
        check_preprocess(spec.preprocess)
        classes = _classes(published, found, spec)
        expected = parameter_shapes(spec, classes)
        weights, names = _canonical(published, found, framework, expected)
        folded = fold_biases(weights, names, spec.backbone, expected, framework)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}.") from error
    weights |= {**known.weights, **_unexplained(published, found, left_out=headless or known.has_head, prefix=prefix)}
    if different := differences(expected, weights, names):
        advice = _advice(source, spec, different, published, headless=headless)
        raise CheckpointError(f"{source} does not contain the tensors of {spec.name}:\n  {shown(different)}\n{advice}")
    _require_same_network(source, contents, found, spec)
    _require_usable(source, weights, names)
    if folded:
        log(
            f"{source.name}: the biases of {folded} convolutions were moved into the means of the BatchNorms that follow"
        )
    _log_left_out(source, found, head=known.has_head)
    provenance = {"framework": framework, "imported_from": source.name, "source_sha256": _sha256(source)}
    if known.library is not None and known.library.name != OWN:
        provenance["published_by"] = known.library.name
    elif assumed := say_stride(source.name, spec, weights):
        provenance["assumed"] = assumed
    return Checkpoint(spec, {name: weights[name] for name in expected}, classes, provenance)


def _unexplained(published: Published, found: Naming, *, left_out: bool, prefix: str | None) -> dict[str, np.ndarray]:
    """Tensors beside those that were recognised which may take part in what is imported, so that the file does not fit.

    If other tensors are left out, these are convolutions inside the backbone, unless the user left them out by naming the prefix.
    """
    tensors = {name: value for name in found.others if isinstance(value := published[name], np.ndarray)}
    if not left_out:
        return tensors
    inside = in_trunk(found, tensors) if prefix is None else []
    return {name: tensors[name] for name in inside if name.endswith(".weight") and tensors[name].ndim > 2}


def _require_same_network(source: Path, contents: Contents, found: Naming, spec: ModelSpec) -> None:
    """Raises `CheckpointError` if names or strides tell that a network with the same tensors computes something else."""
    published = contents.tensors
    if not published_as(spec.name, found.prefix, published) and (others := fitting_models(published)):
        raise CheckpointError(
            f"{source} has the tensors of {spec.name}, but under the names of another library, whose network with the same "
            f"tensors computes something else. Pass --model {with_strides(others)}."
        )
    if reason := conflicting_stride(contents.strides, found, spec.backbone):
        raise CheckpointError(f"{source}: {reason}.")


def _require_usable(source: Path, weights: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
    """Raises `CheckpointError` if a tensor has values that no training leaves."""
    for name, value in weights.items():
        if reason := unusable(name, value) or _unfinished(value):
            raise CheckpointError(
                f"{source}: {names.get(name, name)} {reason}, so the network would compute nothing of use. The file was saved like "
                "that: take an earlier checkpoint of that training, or download it again."
            )


def _unfinished(value: np.ndarray) -> str | None:
    """Why no training made a tensor: a download that reserved its space and stopped ends in zeros."""
    return "is a convolution of nothing but zeros" if value.ndim == 4 and not value.any() else None


def _classes(published: Published, found: Naming, spec: ModelSpec) -> int:
    """Classes of the margin loss, 0 if the file has no class weights."""
    for theirs, ours in found.canonical.items():
        value = published[theirs]
        if ours == f"{LOSS_PREFIX}weight" and isinstance(value, np.ndarray) and value.ndim:
            return len(value) // spec.loss.sub_centers
    return 0


def _canonical(
    published: Published, found: Naming, framework: str, expected: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors in PyTorch's layout by canonical name, and {canonical name: the file's name}.

    Those of the expected shapes are float32. Others are left as they are: many may share one large storage, and copies of all
    would not fit into memory.
    """
    weights, names = {}, {}
    for theirs, ours in found.canonical.items():
        if ours in weights and same(published[theirs], published[names[ours]]):
            continue
        if ours in weights:
            raise CheckpointError(
                f"the file's {names[ours]} and {theirs} are both the model's {ours}; remove one of them from the file"
            )
        value = published[theirs]
        if isinstance(value, Opaque) and ours not in expected:
            continue
        if isinstance(value, np.ndarray) and ours.endswith("linear.weight"):
            if value.ndim == 4 and value.shape[2:] == (1, 1):
                value = value[:, :, 0, 0]  # a 1×1 convolution of a pooled map
            elif framework == "paddle":
                value = value.T  # Paddle keeps it as [in, out]
        if isinstance(value, Opaque) or value.shape == expected.get(ours):
            value = as_float32(theirs, value, framework)
        weights[ours], names[ours] = value, theirs
    if layout(published) is None and any(ours.endswith("linear.weight") for ours in weights):
        raise CheckpointError(
            "its names do not tell whether PyTorch or Paddle laid out its linear layers, as [out, in] or [in, out]. Keep the "
            "statistics of BatchNorm (running_mean or _mean) in the file"
        )
    return weights, names


def _same_in(published: Published) -> Callable[[str, str], bool]:
    return lambda first, second: same(published[first], published[second])


def _log_left_out(source: Path, found: Naming, *, head: bool) -> None:
    if found.prefix:
        log(f"{source.name}: the backbone stands under {found.prefix!r}")
    if left_out := found.others:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        whose = "the backbone's or the head's" if head else "the backbone's"
        log(f"{source.name}: left out, because they are not {whose}: {', '.join(left_out[:5])}{more}")


def _advice(source: Path, spec: ModelSpec, different: list[str], published: Published, *, headless: bool) -> str:
    """What to do about a file whose tensors are not the model's."""
    shard = re.search(r"\d{5}-of-(\d{5})", source.name)
    if shard and int(shard[1]) > 1:
        return (
            f"By its name it is one of {int(shard[1])} files. Where the model is, write one file, "
            "`model.save_pretrained('whole', max_shard_size='100GB')`, and import that."
        )
    fitting = fitting_models(published)
    missing = [line for line in different if line.startswith("- ")]
    if spec.name in fitting and headless:
        return (
            "All its tensors are there, but others stand inside the backbone and may take part in it. If they do not, pass "
            "--prefix with what stands before the backbone's names."
        )
    if spec.name in fitting and any(not line.startswith("- backbone.") for line in missing):
        return "The backbone fits, but the file has no embedding layer of ours: pass --headless to import only the backbone."
    if spec.name in fitting:
        return f"All other tensors of {spec.name} fit. To import only the backbone, pass --headless."
    if len(missing) > 2 and all(re.search(r"\.running_(mean|var) ", line) for line in missing):
        return (
            "The file has parameters only, without the statistics of BatchNorm, and no network computes without them: save all of "
            "`model.state_dict()`."
        )
    if len(missing) == len(parameter_shapes(spec)):
        return (
            f"Its names, such as {', '.join(repr(name[:60]) for name in list(published)[:3])}, are of no library that is known here: "
            "rename them as timm does, 'layer1.0.conv1.weight'."
        )
    if fitting:
        return f"Its backbone fits --model {with_strides(fitting)}."
    if len(different) <= _NEAR * len(parameter_shapes(spec)):
        return f"All other tensors of {spec.name} fit: the file is of a network that differs in these only."
    return (
        "No variant of the zoo has exactly these tensors. `landmark-zoo models` lists the variants. Export another network to ONNX, "
        "and convert that file: `python -m export.to_savedmodel --onnx`."
    )


def published_as(name: str, prefix: str, names: Iterable[str]) -> bool:
    """Whether a library that names a backbone like that publishes this variant; True if the names do not tell."""
    equals = {source.partition(" ")[0] for source in VARIANTS[name].equals} if name in VARIANTS else set()
    theirs = publishers(prefix, names)
    return theirs is None or not equals or bool(theirs & equals)


def fitting_models(published: Published) -> list[str]:
    """The variants whose backbone has exactly these tensors and that a library with these names publishes."""
    if len(published) > FITTED:
        [most, *_] = prefixes(published)
        published = {name: value for name, value in published.items() if name.startswith(most)}
    if len(published) > FITTED:
        return []
    fitting = []
    for name in VARIANTS:
        spec = SPECS[name].headless()
        expected = parameter_shapes(spec)
        try:
            found = naming(published, spec.backbone, expected, same=_same_in(published))
        except CheckpointError:
            continue
        shapes = {
            ours: getattr(published[theirs], "shape", None)
            for theirs, ours in found.canonical.items()
            if ours.startswith("backbone.") and not mean_behind(ours, spec.backbone, expected)
        }
        if shapes == expected and published_as(name, found.prefix, published):
            fitting.append(name)
    return fitting


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_file(
    source: Path, spec: ModelSpec, out: Path, *, headless: bool, prefix: str | None, stated: Stated
) -> Checkpoint:
    """Writes the checkpoint of `import_weights`, says what is in it, and returns it.

    Raises:
        CheckpointError: see `import_weights`.
        OutputError: `out` is the source or cannot be written, which is found before the source is read.
    """
    with output_file(out, [source]):
        needed = weight_bytes(spec.headless())
        require_room(out, needed, largest=needed)
        checkpoint = import_weights(source, spec, headless=headless, prefix=prefix, stated=stated)
        save_checkpoint(out, checkpoint)
    count = sum(value.size for value in checkpoint.weights.values())
    origin = checkpoint.provenance.get("published_by", checkpoint.provenance["framework"])
    log(f"{checkpoint.spec.name}: {len(checkpoint.weights)} tensors, {count:,} values, from {origin}")
    return checkpoint


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=given_path, help=".pth, .pt, .pdparams, .safetensors, .h5 or .keras")
    parser.add_argument("--model", required=True, help="the variant, by its name in the zoo or a published one")
    parser.add_argument("--out", required=True, type=given_path, help="the checkpoint to write (.safetensors)")
    parser.add_argument(
        "--headless", action="store_true", help="only the backbone: its average-pooled features become the descriptor"
    )
    parser.add_argument(
        "--prefix", help="what stands before the backbone's names in the file; default: it is looked for"
    )
    preprocessing = parser.add_argument_group("preprocessing that the weights were trained with")
    size = PreprocessSpec().size
    preprocessing.add_argument("--size", type=ranged(Pixels), default=size, help="side in pixels; default: %(default)s")
    add_preprocess_options(preprocessing, "the file's or its library's")
    unsaid = parser.add_argument_group("what no tensor of a file tells")
    unsaid.add_argument("--pool", choices=get_args(Pool), help="global pooling; default: the file's or the library's")
    unsaid.add_argument(
        "--l2-before-neck",
        action="store_const",
        const=True,
        help="the pooled features are scaled to unit norm; default: the file's or the library's",
    )
    unsaid.add_argument("--whitening", metavar="NAME", help="one of the file's whitenings, to apply; default: none")
    unsaid.add_argument(
        "--last-stride", type=int, choices=(1, 2), help="stride of the last layer; default: the library's, or 2"
    )
    unsaid.add_argument(
        "--stem-pool",
        choices=("padded", "ceil"),
        help="the stem's pooling pads each side, or none and keeps a last window that the edge cuts; default: the library's, or padded",
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    stated = Stated(
        preprocess=stated_preprocess(arguments),
        pool=arguments.pool,
        l2_before_neck=arguments.l2_before_neck,
        whitening=arguments.whitening,
        last_stride=arguments.last_stride,
        stem_pool=arguments.stem_pool,
    )
    import_file(
        arguments.source,
        find_spec(arguments.model),
        arguments.out,
        headless=arguments.headless,
        prefix=arguments.prefix,
        stated=stated,
    )
    print(arguments.out)


if __name__ == "__main__":
    run(main)
