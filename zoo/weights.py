"""Names, shapes and initial values of a model's tensors, derived from its spec without a framework.

Names follow torchvision and timm (`backbone.layer3.0.conv2.weight`), and IBN-Net for IBN-a (`bn1.IN`, `bn1.BN`).
Layouts are PyTorch's: convolutions [out, in / groups, height, width], linear weights [out, in], class weights [classes
· sub-centres, embedding].
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from zoo.constants import first_adaptive_scale
from zoo.specs import BackboneSpec, HeadSpec, ModelSpec

Shape = tuple[int, ...]
LOSS_PREFIX = "arc_margin."
"""Prefix of the loss's tensors, which an exported network does not contain."""


def parameter_shapes(spec: ModelSpec, classes: int = 0) -> dict[str, Shape]:
    """The shape of every tensor of a checkpoint by canonical name, in the order of the forward pass.

    Args:
        spec: the model.
        classes: classes of the margin loss; 0 for a model without class weights.
    """
    shapes = {f"backbone.{name}": shape for name, shape in _backbone(spec.backbone)}
    head = spec.head
    if exponent := exponent_name(head):
        shapes[exponent] = (1,)
    size = spec.features
    for layer in head.neck_layers:
        if layer == "bn":
            shapes |= _batch_norm("neck.bn", size)
        else:
            shapes |= _linear("neck.linear", head.embedding_size, size, bias=head.neck_bias)
            size = head.embedding_size
    if head.whitening_size:
        shapes |= _linear("neck.whitening.linear", head.whitening_size, size, bias=True)
    if classes:
        shapes[f"{LOSS_PREFIX}weight"] = (classes * spec.loss.sub_centers, spec.embedding_size)
        shapes |= {f"{LOSS_PREFIX}{name}": shape for name, shape in loss_state(spec.loss.kind, classes).items()}
    return shapes


def exponent_name(head: HeadSpec) -> str | None:
    """The canonical name of GeM's exponent; None if the head has none that is trained."""
    if "gem" not in head.pools or not head.gem_p_learned:
        return None
    return "pool.p" if head.pool == "gem" else "pool.gem.p"


def loss_state(kind: str, classes: int) -> dict[str, Shape]:
    """Shapes of a margin loss's buffers by name: values that are measured or counted, not trained."""
    kept = {"curricular_face": {"mean_cosine": (1,)}, "ada_cos": {"adaptive_scale": (1,)}}
    return {"dynamic_arc_face": {"class_margin": (classes,)}, **kept}.get(kind, {})


def _batch_norm(name: str, channels: int) -> dict[str, Shape]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _linear(name: str, outputs: int, inputs: int, *, bias: bool) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _conv_bn(
    conv: str, bn: str, out: int, inputs: int, kernel: int, groups: int = 1, ibn: bool = False
) -> Iterator[tuple[str, Shape]]:
    yield f"{conv}.weight", (out, inputs // groups, kernel, kernel)
    if ibn:
        yield from ((f"{bn}.IN.{part}", (out // 2,)) for part in ("weight", "bias"))
        yield from _batch_norm(f"{bn}.BN", out - out // 2).items()
    else:
        yield from _batch_norm(bn, out).items()


def _biased(name: str, out: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    """A 1×1 convolution with a bias."""
    yield f"{name}.weight", (out, inputs, 1, 1)
    yield f"{name}.bias", (out,)


def _backbone(spec: BackboneSpec) -> Iterator[tuple[str, Shape]]:
    channels, (first, second) = spec.stem_channels, spec.stem_widths
    if spec.preactivated:
        yield from _maybe_biased(spec, "conv1", channels, 3, 7)
    elif spec.stem == "conv7x7":
        yield from _conv_bn("conv1", "bn1", channels, 3, 7)
    else:
        yield from _conv_bn("conv1.0", "conv1.1", first, 3, 3)
        yield from _conv_bn("conv1.3", "conv1.4", second, first, 3)
        yield from _conv_bn("conv1.6", "bn1", channels, second, 3)
    for layer, (depth, planes) in enumerate(zip(spec.depths, spec.planes, strict=True), start=1):
        for index in range(depth):
            name, out = f"layer{layer}.{index}", planes * spec.expansion
            yield from _block(spec, name, layer, channels, planes)
            if spec.squeeze_excitation:
                yield from _biased(f"{name}.se.fc1", spec.squeezed(planes), out)
                yield from _biased(f"{name}.se.fc2", out, spec.squeezed(planes))
            if index == 0 and spec.needs_shortcut(layer, channels, out):
                yield from _shortcut(spec, f"{name}.downsample", out, channels)
            channels = out
    if spec.preactivated:
        yield from _batch_norm("bn_last", channels).items()


def _shortcut(spec: BackboneSpec, name: str, out: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    if spec.preactivated:
        yield from _maybe_biased(spec, name, out, inputs, 1)
        return
    first = 1 if spec.shortcut == "avg_conv" else 0
    yield from _conv_bn(f"{name}.{first}", f"{name}.{first + 1}", out, inputs, 1)


def _maybe_biased(spec: BackboneSpec, name: str, out: int, inputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    """A convolution that no BatchNorm follows."""
    yield f"{name}.weight", (out, inputs, kernel, kernel)
    if spec.convolution_bias:
        yield f"{name}.bias", (out,)


def _preactivation(spec: BackboneSpec, name: str, inputs: int, planes: int) -> Iterator[tuple[str, Shape]]:
    width = spec.group_width(planes)
    yield from _batch_norm(f"{name}.bn1", inputs).items()
    yield from _conv_bn(f"{name}.conv1", f"{name}.bn2", width, inputs, 1)
    yield from _conv_bn(f"{name}.conv2", f"{name}.bn3", width, width, 3, spec.cardinality)
    yield from _maybe_biased(spec, f"{name}.conv3", planes * spec.expansion, width, 1)


def _block(spec: BackboneSpec, name: str, layer: int, inputs: int, planes: int) -> Iterator[tuple[str, Shape]]:
    ibn = spec.instance_normalised(layer)
    if spec.block == "basic":
        yield from _conv_bn(f"{name}.conv1", f"{name}.bn1", planes, inputs, 3, ibn=ibn)
        yield from _conv_bn(f"{name}.conv2", f"{name}.bn2", planes, planes, 3)
        return
    if spec.preactivated:
        yield from _preactivation(spec, name, inputs, planes)
        return
    width, groups = spec.group_width(planes), spec.cardinality
    yield from _conv_bn(f"{name}.conv1", f"{name}.bn1", width * spec.scale, inputs, 1, ibn=ibn)
    if spec.block == "split_attention":
        yield from _split_attention(spec, f"{name}.conv2", width, spec.attention_channels(planes))
    elif spec.block == "res2net":
        for split in range(spec.scale - 1):
            yield from _conv_bn(f"{name}.convs.{split}", f"{name}.bns.{split}", width, width, 3, groups)
    else:
        yield from _conv_bn(f"{name}.conv2", f"{name}.bn2", width, width, 3, groups)
    yield from _conv_bn(f"{name}.conv3", f"{name}.bn3", planes * spec.expansion, width * spec.scale, 1)


def _split_attention(spec: BackboneSpec, name: str, width: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    groups, splits = spec.cardinality, width * spec.radix
    yield from _conv_bn(f"{name}.conv", f"{name}.bn0", splits, width, 3, groups * spec.radix)
    yield f"{name}.fc1.weight", (hidden, width // groups, 1, 1)
    if spec.attention_bias:
        yield f"{name}.fc1.bias", (hidden,)
    yield from _batch_norm(f"{name}.bn1", hidden).items()
    yield from _biased(f"{name}.fc2", splits, hidden // groups)


def is_buffer(name: str) -> bool:
    """Whether a tensor is a buffer, which is not trained: BatchNorm's statistics and the state of the losses."""
    return name.endswith((".running_mean", ".running_var", ".mean_cosine", ".class_margin", ".adaptive_scale"))


def parameters(spec: ModelSpec) -> int:
    """The number of trained values, without the class weights."""
    return sum(math.prod(shape) for name, shape in parameter_shapes(spec).items() if not is_buffer(name))


def without_loss(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without those of the loss."""
    return {name: value for name, value in weights.items() if not name.startswith(LOSS_PREFIX)}


def dynamic_margins(class_counts: Sequence[int]) -> np.ndarray:
    """float64 [classes]: each class's share of the stage's margin, (n / n of the rarest class)^(-1/4).

    The exponent is from the 3rd place solution of Google Landmark Recognition 2020 (arXiv 2010.05350, §2.2). The shares
    are scaled so that the rarest class has the full margin of the stage.
    """
    counts = np.maximum(np.asarray(class_counts, np.float64), 1)
    return (counts / counts.min()) ** -0.25


def initial_weights(spec: ModelSpec, class_counts: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """The float32 values that training starts from; the same in both frameworks.

    Convolutions: He et al. (arXiv 1502.01852), normal, fan out. Linear and class weights: normal with a standard
    deviation of 1/√embedding_size. BatchNorm: identity. AdaCos' scale: √2 · log(classes - 1), its paper's equation 12.

    Args:
        spec: the model.
        class_counts: training images per class.
        seed: seed of the random values.
    """
    random = np.random.default_rng(seed)
    values = {}
    for name, shape in parameter_shapes(spec, len(class_counts)).items():
        if name.endswith(".p"):
            value = np.full(shape, spec.head.gem_p)
        elif name.endswith(".class_margin"):
            value = dynamic_margins(class_counts)
        elif name.endswith(".adaptive_scale"):
            value = np.full(shape, first_adaptive_scale(len(class_counts)))
        elif len(shape) == 4:
            value = random.normal(0, np.sqrt(2 / (shape[0] * shape[2] * shape[3])), shape)
        elif len(shape) == 2:
            value = random.normal(0, 1 / np.sqrt(spec.embedding_size), shape)
        else:
            value = np.full(shape, float(name.endswith((".weight", ".running_var"))))
        values[name] = value.astype(np.float32)
    return values
