"""A small version of every variant, and its normal form: the networks that the parity tests use."""

import functools
from dataclasses import replace

import onnx

from export.exporters import export_onnx
from export.normal_form.rewrites import normal_form
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import Checkpoint
from zoo.specs import BackboneSpec, HeadSpec, ModelSpec, PreprocessSpec
from zoo.variants import SPECS, VARIANTS

_HEAD = HeadSpec(embedding_size=64)
_SIZE = PreprocessSpec(size=64)
_OTHER_PIXELS = PreprocessSpec(64, mean=(0.3, 0.5, 0.6), std=(0.2, 0.35, 0.27), channels="bgr")


def shrunk(name: str, head: HeadSpec = _HEAD, preprocess: PreprocessSpec = _SIZE) -> ModelSpec:
    """A variant with an eighth of its planes and one or two blocks per layer; everything else is unchanged."""
    backbone: BackboneSpec = SPECS[name].backbone
    # Groups have at least two channels, so that channels within a group can be swapped by mistake.
    cardinality = min(backbone.cardinality, 8)
    small = replace(
        backbone,
        depths=(2, 1, 1, 1) if max(backbone.depths) < 10 else (2, 1, 2, 1),
        planes=(8, 16, 24, 32),
        stem_channels=24,
        stem_width=8,
        base_width=32 if cardinality >= 4 else 64,
        cardinality=cardinality,
    )
    return ModelSpec(f"{name}_small", small, head, preprocess)


def _with_head(**head: object) -> ModelSpec:
    return shrunk("resnet18", HeadSpec(**{"embedding_size": 64, **head}))


def _with_backbone(name: str, **options: object) -> ModelSpec:
    spec = shrunk(name)
    return replace(spec, backbone=replace(spec.backbone, **options))


def _families() -> dict[str, str]:
    """The small version that represents each variant: the first variant that shrinks to the same network."""
    first: dict[BackboneSpec, str] = {}
    published_first = sorted(VARIANTS, key=lambda name: not VARIANTS[name].equals)
    return {name: first.setdefault(shrunk(name).backbone, name) for name in published_first}


FAMILIES: dict[str, str] = _families()
OPTIONS: dict[str, ModelSpec] = {
    "average_pool": _with_head(pool="avg"),
    "max_pool_bn_first": _with_head(pool="max", neck="bn_linear", neck_bias=True),
    "average_and_gem_pool": _with_head(pool="avg_gem", neck="linear_bn", neck_bias=True),
    "l2_first": _with_head(l2_before_neck=True, neck_bias=True),
    "l2_then_batch_norm": _with_head(pool="max", neck="bn", l2_before_neck=True, embedding_size=32),
    "whitened": _with_head(neck="linear_bn", neck_bias=True, embedding_size=48, whitening_size=64),
    "fixed_gem_no_neck": _with_head(gem_p_learned=False, neck="none", embedding_size=32),
    "neck_bn_bgr": shrunk("resnet18", HeadSpec(neck="linear_bn", embedding_size=64), _OTHER_PIXELS),
    "bilinear_not_normalised": shrunk(
        "resnet18", HeadSpec(embedding_size=64, l2=False), PreprocessSpec(size=64, resize="bilinear")
    ),
    "stem_pool_ceil": _with_backbone("resnet18", stem_pool="ceil"),
    "last_stride_1": _with_backbone("resnet50", last_stride=1),
    "last_stride_1_pooled": _with_backbone("resnest50", last_stride=1),
}
SMALL_SPECS: dict[str, ModelSpec] = {name: shrunk(name) for name in dict.fromkeys(FAMILIES.values())} | OPTIONS
"""The small versions; together they contain every kind of layer and every option of the specs."""


def small(name: str) -> ModelSpec:
    """The small version that represents a variant."""
    return SMALL_SPECS[FAMILIES[name]]


@functools.cache
def small_checkpoint(name: str) -> Checkpoint:
    """The weights of a spec of `SMALL_SPECS`, the same in all tests."""
    return random_checkpoint(SMALL_SPECS[name], seed=7)


@functools.cache
def exported(name: str, framework: str) -> onnx.ModelProto:
    """The ONNX export of a small version from one framework; do not modify it."""
    return export_onnx(small_checkpoint(name), framework)


@functools.cache
def in_normal_form(name: str, framework: str) -> onnx.ModelProto:
    """The same in normal form; do not modify it."""
    return normal_form(exported(name, framework))
