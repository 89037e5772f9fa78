"""Names, shapes and first values of a model's tensors, derived from its spec without a framework.

The grammar is torchvision's and timm's (`backbone.layer3.0.conv2.weight`); layouts are PyTorch's: convolutions
[out, in / groups, height, width], linear weights [out, in], class weights [classes, embedding].
"""

from collections.abc import Iterator

import numpy as np

from zoo.specs import BackboneSpec, ModelSpec

Shape = tuple[int, ...]


def parameter_shapes(spec: ModelSpec, classes: int = 0) -> dict[str, Shape]:
    """Every tensor of a checkpoint by its canonical name, in the order of the forward pass.

    Args:
        spec: the model.
        classes: rows of the ArcMargin class weights; 0 for a model without them.
    """
    shapes = {f"backbone.{name}": shape for name, shape in _backbone(spec.backbone)}
    head = spec.head
    if head.pool == "gem":
        shapes["pool.p"] = (1,)
    if head.neck != "none":
        shapes["neck.linear.weight"] = (head.embedding_size, spec.backbone.features)
    if head.neck == "linear_bn":
        shapes |= _batch_norm("neck.bn", head.embedding_size)
    if classes:
        shapes["arc_margin.weight"] = (classes, head.embedding_size)
    return shapes


def _batch_norm(name: str, channels: int) -> dict[str, Shape]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _conv_bn(conv: str, bn: str, out: int, inputs: int, kernel: int, groups: int = 1) -> Iterator[tuple[str, Shape]]:
    yield f"{conv}.weight", (out, inputs // groups, kernel, kernel)
    yield from _batch_norm(bn, out).items()


def _backbone(spec: BackboneSpec) -> Iterator[tuple[str, Shape]]:
    channels, width = spec.stem_channels, spec.stem_width
    if spec.stem == "deep":
        yield from _conv_bn("conv1.0", "conv1.1", width, 3, 3)
        yield from _conv_bn("conv1.3", "conv1.4", width, width, 3)
        yield from _conv_bn("conv1.6", "bn1", channels, width, 3)
    else:
        yield from _conv_bn("conv1", "bn1", channels, 3, 7)
    for layer, (depth, planes) in enumerate(zip(spec.depths, spec.planes, strict=True), start=1):
        for index in range(depth):
            stride = 2 if index == 0 and layer > 1 else 1
            name, out = f"layer{layer}.{index}", planes * spec.expansion
            yield from _block(spec, name, channels, planes)
            if stride == 2 or channels != out:
                first = 1 if spec.shortcut == "avg_conv" else 0
                yield from _conv_bn(f"{name}.downsample.{first}", f"{name}.downsample.{first + 1}", out, channels, 1)
            channels = out


def _block(spec: BackboneSpec, name: str, inputs: int, planes: int) -> Iterator[tuple[str, Shape]]:
    if spec.block == "basic":
        yield from _conv_bn(f"{name}.conv1", f"{name}.bn1", planes, inputs, 3)
        yield from _conv_bn(f"{name}.conv2", f"{name}.bn2", planes, planes, 3)
        return
    width, groups = spec.group_width(planes), spec.cardinality
    yield from _conv_bn(f"{name}.conv1", f"{name}.bn1", width, inputs, 1)
    if spec.block == "split_attention":
        yield from _split_attention(spec, f"{name}.conv2", width, spec.attention_channels(planes))
    else:
        yield from _conv_bn(f"{name}.conv2", f"{name}.bn2", width, width, 3, groups)
    yield from _conv_bn(f"{name}.conv3", f"{name}.bn3", planes * spec.expansion, width, 1)


def _split_attention(spec: BackboneSpec, name: str, width: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    groups, splits = spec.cardinality, width * spec.radix
    yield from _conv_bn(f"{name}.conv", f"{name}.bn0", splits, width, 3, groups * spec.radix)
    yield f"{name}.fc1.weight", (hidden, width // groups, 1, 1)
    yield f"{name}.fc1.bias", (hidden,)
    yield from _batch_norm(f"{name}.bn1", hidden).items()
    yield f"{name}.fc2.weight", (splits, hidden // groups, 1, 1)
    yield f"{name}.fc2.bias", (splits,)


def is_buffer(name: str) -> bool:
    """Whether a tensor is a BatchNorm statistic, which is measured and not trained."""
    return name.endswith((".running_mean", ".running_var"))


def initial_weights(spec: ModelSpec, classes: int, seed: int) -> dict[str, np.ndarray]:
    """The float32 values that training starts from, the same in both frameworks.

    Convolutions: He et al. (arXiv 1502.01852), normal, fan out. Linear and class weights: normal with a standard
    deviation of 1/√embedding_size. BatchNorm: identity.
    """
    random = np.random.default_rng(seed)
    values = {}
    for name, shape in parameter_shapes(spec, classes).items():
        if name == "pool.p":
            value = np.full(shape, spec.head.gem_p)
        elif len(shape) == 4:
            value = random.normal(0, np.sqrt(2 / (shape[0] * shape[2] * shape[3])), shape)
        elif len(shape) == 2:
            value = random.normal(0, 1 / np.sqrt(spec.head.embedding_size), shape)
        else:
            value = np.full(shape, float(name.endswith((".weight", ".running_var"))))
        values[name] = value.astype(np.float32)
    return values
