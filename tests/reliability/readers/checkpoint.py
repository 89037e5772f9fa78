"""The project's own checkpoints, and published safetensors files (`zoo.checkpoint`, `zoo.published`)."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt
from tests.reliability.weights import read as read_published
from zoo.checkpoint import FORMAT, load_checkpoint
from zoo.errors import CheckpointError
from zoo.variants import get_spec
from zoo.weights import initial_weights

_SPEC = get_spec("resnet10_narrow")
_SPEC = dataclasses.replace(
    _SPEC,
    backbone=dataclasses.replace(_SPEC.backbone, planes=(2, 2, 2, 2), stem_channels=2),
    head=dataclasses.replace(_SPEC.head, embedding_size=3),
)
_WEIGHTS = initial_weights(_SPEC, (1, 2), 0)
_METADATA = {
    "format": FORMAT,
    "spec": json.dumps(_SPEC.to_dict()),
    "classes": "2",
    "provenance": '{"framework": "torch"}',
}
_VALUES = (0, -1, 1, 10**9, 10**30, 1.5, float("inf"), "", "conv7x7", None, [], [1] * 9, {}, True)


@st.composite
def _spec(draw: st.DrawFn) -> bytes:
    """A checkpoint in whose spec one value is another one."""
    spec = json.loads(_METADATA["spec"])
    part = draw(st.sampled_from((spec, spec["backbone"], spec["head"], spec["preprocess"], spec["loss"])))
    key = draw(st.sampled_from(sorted(part)))
    value = part[key]
    if isinstance(value, list) and draw(st.booleans()):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.sampled_from(_VALUES))
    else:
        part[key] = draw(st.sampled_from(_VALUES))
    return encode(*layout(_WEIGHTS, _METADATA | {"spec": json.dumps(spec)}))


def _read(path: Path) -> None:
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        read_published(path)
        raise
    assert all(np.isfinite(value).all() for value in checkpoint.weights.values())
    assert all((value >= 0).all() for name, value in checkpoint.weights.items() if name.endswith("running_var"))
    assert checkpoint.weights["pool.p"][0] > 0
    assert isinstance(checkpoint.provenance, dict)


READER = Reader(
    "checkpoint (.safetensors)",
    st.one_of(
        damaged(encode(*layout(_WEIGHTS, _METADATA))), lying(_WEIGHTS, _METADATA), spoilt(_WEIGHTS, _METADATA), _spec()
    ),
    _read,
    place="model.safetensors",
)
