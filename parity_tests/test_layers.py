"""Every layer of both frameworks compared with numpy in float64."""

import importlib

import numpy as np
import pytest

from parity_tests import oracle
from zoo.constants import NORM_EPSILON
from zoo.specs import BackboneSpec, HeadSpec

FLOAT64 = 1e-10
"""Measured at most 3e-14 on values near 1; numpy sums in another order."""


class Side:
    """One framework's layers, run in float64 on numpy arrays."""

    def __init__(self, framework: str) -> None:
        self.layers = importlib.import_module(f"{framework}_models.layers")
        self.res2net = importlib.import_module(f"{framework}_models.res2net")
        self.checkpoint = importlib.import_module(f"{framework}_models.checkpoint")
        self.library = importlib.import_module(framework)
        self.torch = framework == "torch"

    def tensor(self, values: np.ndarray):
        return self.library.from_numpy(values) if self.torch else self.library.to_tensor(values)

    def load(self, layer, weights: dict[str, np.ndarray]):
        layer = layer.double() if self.torch else layer.to(dtype="float64")
        self.checkpoint.load_weights(layer, weights)
        layer.eval()
        return layer

    def run(self, layer, *inputs) -> np.ndarray:
        with self.library.no_grad():
            return layer(*(self.tensor(i) if isinstance(i, np.ndarray) else i for i in inputs)).numpy()


@pytest.fixture(params=["torch", "paddle"])
def side(request: pytest.FixtureRequest) -> Side:
    return Side(request.param)


def _weights(side: Side, layer, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    values = {}
    for name, value in side.checkpoint.read_weights(layer).items():
        low = 0.5 if name.endswith("running_var") else -1.0
        values[name] = random.uniform(low, 1.5, value.shape)
    return values


@pytest.mark.parametrize(("radix", "cardinality"), [(1, 1), (2, 1), (4, 1), (2, 2), (1, 4)])
def test_split_attention(side, radix, cardinality):
    layer = side.layers.SplitAttention(8, 16, radix, cardinality)
    weights = _weights(side, layer, seed=radix * 10 + cardinality)
    x = np.random.default_rng(1).normal(size=(2, 8, 5, 7))
    expected = oracle.split_attention(x, weights, radix, cardinality)
    np.testing.assert_allclose(side.run(side.load(layer, weights), x), expected, rtol=0, atol=FLOAT64 * 100)


@pytest.mark.parametrize("p", [1.0, 2.5, 3.0])
def test_generalised_mean(side, p):
    layer = side.load(side.layers.GeneralisedMean(p, True), {"p": np.array([p])})
    x = np.random.default_rng(2).normal(size=(3, 6, 4, 5))
    np.testing.assert_allclose(side.run(layer, x), oracle.generalised_mean(x, p), rtol=0, atol=FLOAT64)


def test_fixed_generalised_mean(side):
    x = np.random.default_rng(2).normal(size=(3, 6, 4, 5))
    layer = side.load(side.layers.GeneralisedMean(2.6, False), {})
    np.testing.assert_allclose(side.run(layer, x), oracle.generalised_mean(x, 2.6), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("pool", ["avg", "max", "avg_max", "avg_gem", "max_gem"])
def test_concatenated_pools(side, pool):
    x = np.random.default_rng(7).normal(size=(3, 6, 4, 5))
    each = {"avg": x.mean((2, 3)), "max": x.max((2, 3)), "gem": oracle.generalised_mean(x, 3.0)}
    layer = side.layers.global_pool(HeadSpec(pool=pool, gem_p_learned=False))
    expected = np.concatenate([each[name] for name in pool.split("_")], axis=1)
    np.testing.assert_allclose(side.run(side.load(layer, {}), x), expected, rtol=0, atol=FLOAT64)


def test_squeeze_excitation(side):
    layer = side.layers.SqueezeExcitation(6, 8)
    weights = _weights(side, layer, seed=8)
    x = np.random.default_rng(8).normal(size=(2, 6, 5, 7))
    found = side.run(side.load(layer, weights), x)
    np.testing.assert_allclose(found, oracle.squeeze_excitation(x, weights), rtol=0, atol=FLOAT64)


def test_instance_batch_norm(side):
    layer = side.layers.InstanceBatchNorm(7)
    weights = _weights(side, layer, seed=9)
    x = np.random.default_rng(9).normal(size=(2, 7, 5, 4))
    found = side.run(side.load(layer, weights), x)
    # Paddle keeps epsilon in float32, with a relative error of 2.5e-8; the variance is near 1.
    np.testing.assert_allclose(found, oracle.instance_batch_norm(x, weights), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("scale", "cardinality"), [(2, 1), (4, 1), (3, 2)])
def test_res2net_block(side, scale, cardinality):
    spec = BackboneSpec((1, 1, 1, 1), block="res2net", base_width=64, scale=scale, cardinality=cardinality)
    layer = side.res2net.Res2NetBottleneck(spec, 2, 16, 4, 1, None)
    weights = _weights(side, layer, seed=scale)
    x = np.random.default_rng(10).normal(size=(2, 16, 5, 6))
    y = oracle.relu(oracle.batch_norm(oracle.convolution(x, weights["conv1.weight"], None, 1, 1), weights, "bn1"))
    y = oracle.hierarchy(y, weights, scale, cardinality)
    y = oracle.batch_norm(oracle.convolution(y, weights["conv3.weight"], None, 1, 1), weights, "bn3")
    found = side.run(side.load(layer, weights), x)
    np.testing.assert_allclose(found, oracle.relu(y + x), rtol=0, atol=FLOAT64 * 100)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 6), (1, 1)])
def test_poolings(side, size, counted):
    x = np.random.default_rng(3).normal(size=(2, 3, *size))
    shortcut = side.run(side.layers.shortcut_pool(), x)
    np.testing.assert_allclose(shortcut, oracle.average_pool(x, 2, 2, 0, False, ceil=True), rtol=0, atol=FLOAT64)
    block = side.run(side.layers.block_pool(2, counted), x)
    np.testing.assert_allclose(block, oracle.average_pool(x, 3, 2, 1, counted), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 6), (3, 3)])
def test_stem_pools(side, size):
    x = np.random.default_rng(3).normal(size=(2, 3, *size))
    with_zeros = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for padding, expected in {
        "padded": oracle.maximum_pool(x, 3, 2, pad=1, ceil=False),
        "zeros": oracle.maximum_pool(with_zeros, 3, 2, pad=0, ceil=False),
        "ceil": oracle.maximum_pool(x, 3, 2, pad=0, ceil=True),
    }.items():
        np.testing.assert_array_equal(side.run(side.layers.stem_pool(padding), x), expected)


_NECKS = [
    {"neck": "none"},
    {"neck": "bn"},
    {"neck": "bn", "l2_before_neck": True},
    *(
        {"neck": neck, "neck_bias": bias, "l2_before_neck": l2_first, "whitening_size": whitening_size}
        for neck in ("linear", "linear_bn", "bn_linear")
        for bias in (False, True)
        for l2_first in (False, True)
        for whitening_size in (None, 5)
    ),
]


@pytest.mark.parametrize("options", _NECKS, ids=lambda options: "-".join(map(str, options.values())))
def test_neck(side, options):
    head = HeadSpec(embedding_size=4, **options)
    layer = side.layers.neck(6, head)
    weights = _weights(side, layer, seed=4)
    x = np.random.default_rng(5).normal(size=(3, 6))
    expected = oracle.unit_norm(x) if head.l2_before_neck else x
    expected = oracle.batch_norm(expected, weights, "bn") if head.neck in ("bn", "bn_linear") else expected
    if "linear" in head.neck:
        expected = expected @ weights["linear.weight"].T + (weights["linear.bias"] if head.neck_bias else 0)
    expected = oracle.batch_norm(expected, weights, "bn") if head.neck == "linear_bn" else expected
    if head.whitening_size:
        expected = oracle.unit_norm(expected) @ weights["whitening.linear.weight"].T + weights["whitening.linear.bias"]
    np.testing.assert_allclose(side.run(side.load(layer, weights), x), expected, rtol=0, atol=FLOAT64)


def test_unit_norm_keeps_zero(side):
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    found = side.run(lambda rows: side.layers.unit_norm(rows, NORM_EPSILON), x)
    np.testing.assert_allclose(found[0], [0.6, 0.8], rtol=0, atol=1e-15)
    assert np.isfinite(found).all()
    assert (found[1] == 0).all()
