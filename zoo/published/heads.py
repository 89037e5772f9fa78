"""The head of a published retrieval network: its spec, and the tensors that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from zoo.command import log
from zoo.errors import CheckpointError
from zoo.published.files import Contents
from zoo.published.images import buffer_names, described_images, known_images
from zoo.published.libraries import OWN, Library, head_names, library_of
from zoo.published.names import Naming
from zoo.published.own_head import own_head
from zoo.published.pickled_values import Opaque, plain
from zoo.published.settings import Settings
from zoo.specs import BackboneSpec, HeadSpec, ModelSpec, Neck, Pool, PreprocessSpec, StatedPreprocess
from zoo.weights import LOSS_PREFIX

_NECKS: dict[tuple[bool, bool], Neck] = {
    (True, True): "linear_bn",
    (True, False): "linear",
    (False, True): "bn",
    (False, False): "none",
}
"""{(whether a file has a linear layer, whether it has BatchNorm): the neck}; in every library the linear layer is first."""
_LAYERS = {"linear": "a linear layer", "bn": "BatchNorm"}
_POOLINGS = {"gem": "GeM", "avg": "average", "max": "maximum"}


@dataclass(frozen=True)
class Stated:
    """What the user says of a file; None leaves it to the file, its library or the model's spec.

    Attributes:
        preprocess: how its images are prepared.
        pool: the global pooling, which has no tensors unless its exponent is learned.
        l2_before_neck: whether the pooled features are scaled to unit norm.
        whitening: the name of one of the file's whitenings, which is applied to the descriptor.
        last_stride: stride of the last layer.
        stem_pool: how the stem's pooling is padded, as in `BackboneSpec`.
    """

    preprocess: StatedPreprocess = field(default_factory=StatedPreprocess)
    pool: Pool | None = None
    l2_before_neck: bool | None = None
    whitening: str | None = None
    last_stride: Literal[1, 2] | None = None
    stem_pool: Literal["padded", "ceil"] | None = None

    @property
    def backbone(self) -> dict[str, Any]:
        """What is stated of the backbone: fields of `BackboneSpec`."""
        fields = {"last_stride": self.last_stride, "stem_pool": self.stem_pool}
        return {key: value for key, value in fields.items() if value is not None}


NOTHING = Stated()


@dataclass(frozen=True)
class Recognised:
    """A file's network.

    Attributes:
        spec: the model, with the head of the file if `library` has one.
        found: the names of its tensors, those of the head included.
        weights: further float32 tensors by canonical name, which were computed.
        library: whose network it is; None if its names tell no library.
        has_head: whether the file has a head of that library.
    """

    spec: ModelSpec
    found: Naming
    weights: Mapping[str, np.ndarray]
    library: Library | None
    has_head: bool


def recognised(contents: Contents, found: Naming, spec: ModelSpec, stated: Stated, *, headless: bool) -> Recognised:
    """What a file's names, shapes and settings tell of its network.

    Args:
        contents: of the file.
        found: which tensors are the backbone's.
        spec: the model that the user chose; its backbone decides, and its head if the file has none of a library.
        stated: what the user says.
        headless: leave out the head.

    Raises:
        CheckpointError: the head has layers that the zoo does not have; or what the user stated is not in the file.
    """
    library = library_of(found.prefix, contents.tensors, contents.settings.library)
    settings = _settings_for(library, contents.settings)
    spec = replace(spec, backbone=backbone_of(library, spec.backbone, stated.backbone))
    buffers = buffer_names(library, contents.tensors, found.prefix)
    found = replace(found, others=[name for name in found.others if name not in buffers])
    colours = {key: contents.tensors[name] for name, key in buffers.items()}
    spec = replace(spec, preprocess=_images(library, settings, colours, spec.preprocess, stated.preprocess))
    if headless or library is None or not library.modules:
        if stated.pool or stated.whitening or stated.l2_before_neck:
            raise CheckpointError(
                "--pool, --l2-before-neck and --whitening are for the head of a library of retrieval networks, and none is imported"
            )
        return Recognised(spec.headless() if headless else spec, found, {}, library, has_head=False)
    names = head_names(library, found.prefix, found.others)
    if unknown := [*names.unknown, *settings.unknown]:
        raise CheckpointError(
            f"it is a network of {library.name} that fits {spec.name} but for {', '.join(unknown[:8])}, which the zoo does not have. "
            "Pass --headless to import only the backbone, or export the network to ONNX and convert that file"
        )
    canonical = {
        name: ours for name, ours in names.canonical.items() if settings.linear or not ours.startswith("neck.linear.")
    }
    head, weights = _head(contents, canonical, library, settings, spec, stated)
    others = [name for name in found.others if name not in canonical]
    log(f"the head is {library.name}'s: {described(head)}")
    return Recognised(
        replace(spec, head=head),
        replace(found, canonical=found.canonical | canonical, others=others),
        weights,
        library,
        True,
    )


def _images(
    library: Library | None,
    settings: Settings,
    buffers: Mapping[str, np.ndarray | Opaque],
    usual: PreprocessSpec,
    stated: StatedPreprocess,
) -> PreprocessSpec:
    """How images are prepared, with a line that says whose it is; what nobody states is `usual`."""
    known, whose = known_images(library, settings, buffers, stated)
    preprocess = usual.changed(known).changed(stated)
    log(described_images(preprocess, whose, stated))
    return preprocess


def _settings_for(library: Library | None, settings: Settings) -> Settings:
    """The settings, if they are those of the library whose names the file has."""
    if settings.library is None or (library is not None and library.name == settings.library):
        return settings
    log(f"its settings are those of {settings.library}, but its names are not, so the settings were left out")
    return Settings()


def described(head: HeadSpec) -> str:
    """A head in words."""
    steps = [f"{' and '.join(_POOLINGS[pool] for pool in head.pools)} pooling"]
    steps += ["scaling to unit norm"] if head.l2_before_neck else []
    if head.neck != "none":
        layers = " and ".join(_LAYERS[layer] for layer in head.neck_layers)
        steps.append(f"{layers}{' with a bias' if head.neck_bias else ''} to {head.embedding_size}")
    steps += [f"whitening to {head.whitening_size}"] if head.whitening_size else []
    return ", ".join(steps)


def _head(
    contents: Contents,
    canonical: Mapping[str, str],
    library: Library,
    settings: Settings,
    spec: ModelSpec,
    stated: Stated,
) -> tuple[HeadSpec, dict[str, np.ndarray]]:
    """The head's spec, and the tensors of its whitening."""
    theirs = {ours: name for name, ours in canonical.items()}
    if library.name == OWN:
        sizes = {ours: _outputs(contents, name) for ours, name in theirs.items() if not ours.startswith(LOSS_PREFIX)}
        own = own_head(sizes, spec.backbone.features, spec.head, stated.pool, stated.l2_before_neck)
        return _whitened(own, settings, stated)
    pool = _pool("pool.p" in theirs, library, settings, stated)
    size = spec.backbone.features
    if "neck.linear.weight" in theirs:
        size = _outputs(contents, theirs["neck.linear.weight"])
    neck = _NECKS["neck.linear.weight" in theirs, "neck.bn.weight" in theirs]
    said = (stated.l2_before_neck, settings.l2_before_neck, library.l2_before_neck)
    l2_first = next(said for said in said if said is not None)
    head = HeadSpec(
        pool=pool,
        gem_p_learned="pool.p" in theirs,
        neck=neck,
        neck_bias="neck.linear.bias" in theirs,
        embedding_size=size,
        l2_before_neck=l2_first and neck != "none",
    )
    return _whitened(head, settings, stated)


def _outputs(contents: Contents, name: str) -> int:
    """Outputs of a linear layer or a 1×1 convolution; the length of a vector."""
    value = contents.tensors[name]
    if isinstance(value, Opaque) or value.ndim not in (1, 2, 4):
        raise CheckpointError(f"{name} is no vector and no matrix, as the tensors of a head are")
    return value.shape[1 if contents.framework == "paddle" and value.ndim == 2 else 0]


def _pool(exponent: bool, library: Library, settings: Settings, stated: Stated) -> Pool:
    """The pooling. `exponent`: whether the file has one of GeM."""
    if exponent:
        if stated.pool not in (None, "gem"):
            raise CheckpointError(f"it has an exponent of GeM, so that --pool {stated.pool} is wrong")
        return "gem"
    if pool := stated.pool or settings.pool:
        return pool
    if library.pool is None:
        raise CheckpointError("nothing in it says how it pools its last map; pass --pool with avg, max or gem")
    log(f"its pooling has no tensors; {library.pool} was assumed, {library.name}'s usual one. --pool states another")
    return library.pool


def _whitened(head: HeadSpec, settings: Settings, stated: Stated) -> tuple[HeadSpec, dict[str, np.ndarray]]:
    """The head with the whitening that the user chose, and the whitening's tensors."""
    known = ", ".join(map(plain, list(settings.whitenings)[:8]))
    if stated.whitening is None:
        if known:
            log(
                f"the file also has whitenings, {known}, which were left out; --whitening applies one to the descriptor"
            )
        return head, {}
    if stated.whitening not in settings.whitenings:
        raise CheckpointError(
            f"it has no whitening {stated.whitening!r}; {f'it has {known}' if known else 'it has none'}"
        )
    whitening = settings.whitenings[stated.whitening]()
    outputs, inputs = whitening.weight.shape
    if inputs != head.embedding_size:
        raise CheckpointError(
            f"its whitening {stated.whitening!r} is for descriptors of {inputs} numbers, and the network's have {head.embedding_size}"
        )
    if head.neck == "none":  # the whitening is all there is behind the pooling
        head = replace(head, neck="linear", neck_bias=True, embedding_size=outputs, l2_before_neck=True)
        return head, {"neck.linear.weight": whitening.weight, "neck.linear.bias": whitening.bias}
    tensors = {"weight": whitening.weight, "bias": whitening.bias}
    return replace(head, whitening_size=outputs), {
        f"neck.whitening.linear.{part}": value for part, value in tensors.items()
    }


def backbone_of(library: Library | None, spec: BackboneSpec, stated: Mapping[str, Any]) -> BackboneSpec:
    """The backbone that a library builds of the variant's tensors, with what the user states of it.

    Raises:
        CheckpointError: the library builds one that the zoo does not have.
    """
    if library is None:
        return replace(spec, **stated)
    assumed = {key: value for key, value in library.assumed(spec).items() if key not in stated}
    backbone = replace(spec, **{**assumed, **stated})
    if backbone.last_stride == 1 and backbone.block in library.dilated:
        raise CheckpointError(
            f"{library.name} dilates the convolutions of such a network's last layer if its stride is 1, which the zoo does not have. "
            "If it was trained with LAST_STRIDE 2, pass --last-stride 2"
        )
    if assumed:
        words = " and ".join(f"{key} {value}" for key, value in assumed.items())
        options = " and ".join(f"--{key.replace('_', '-')}" for key in assumed)
        state = "states another" if len(assumed) == 1 else "state others"
        log(f"assumed {words}, as in {library.name}'s configurations; the file does not say ({options} {state})")
    return backbone
