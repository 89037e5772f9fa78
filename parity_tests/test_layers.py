"""Every layer and the loss of both frameworks against the numpy oracle, in float64 where nothing is forgiven."""

import importlib

import numpy as np
import pytest

from parity_tests import oracle
from zoo.specs import HeadSpec

FLOAT64 = 1e-10
"""Measured 3e-14 at most on values near 1; the oracle sums in another order."""


class Side:
    """One framework's layers, run in float64 on numpy arrays."""

    def __init__(self, framework: str) -> None:
        self.layers = importlib.import_module(f"{framework}_models.layers")
        self.arc_margin = importlib.import_module(f"{framework}_models.arc_margin")
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
    layer = side.load(side.layers.GeneralisedMean(p), {"p": np.array([p])})
    x = np.random.default_rng(2).normal(size=(3, 6, 4, 5))
    np.testing.assert_allclose(side.run(layer, x), oracle.generalised_mean(x, p), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 6), (1, 1)])
def test_poolings(side, size):
    x = np.random.default_rng(3).normal(size=(2, 3, *size))
    shortcut = side.run(side.layers.shortcut_pool(), x)
    np.testing.assert_allclose(shortcut, oracle.average_pool(x, 2, 2, 0, False), rtol=0, atol=FLOAT64)
    block = side.run(side.layers.block_pool(2), x)
    np.testing.assert_allclose(block, oracle.average_pool(x, 3, 2, 1, True), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("neck", ["linear", "linear_bn"])
def test_neck(side, neck):
    layer = side.layers.Neck(6, HeadSpec(neck=neck, embedding_size=4))
    weights = _weights(side, layer, seed=4)
    x = np.random.default_rng(5).normal(size=(3, 6))
    expected = x @ weights["linear.weight"].T
    expected = oracle.batch_norm(expected, weights, "bn") if neck == "linear_bn" else expected
    np.testing.assert_allclose(side.run(side.load(layer, weights), x), expected, rtol=0, atol=FLOAT64)


def test_unit_norm_keeps_zero(side):
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    found = side.run(side.layers.unit_norm, x)
    np.testing.assert_allclose(found[0], [0.6, 0.8], rtol=0, atol=1e-15)
    assert np.isfinite(found).all()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("margin", [0.0, 0.15, 0.5])
def test_arc_margin_loss(side, margin):
    random = np.random.default_rng(6)
    layer = side.arc_margin.ArcMargin(5, 8, scale=30.0)
    weights = {"weight": random.normal(size=(5, 8))}
    layer = side.load(layer, weights)
    x = random.normal(size=(7, 8))
    x[0] = -weights["weight"][2] + 0.01 * x[0]  # its angle and any margin pass π: the straight line
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.array([2, 1, 0, 4, 3, 2, 1])
    with side.library.no_grad():
        logits = layer(side.tensor(x), side.tensor(labels), margin)
        found = float(side.arc_margin.arc_margin_loss(logits, side.tensor(labels)))
    expected = oracle.arc_margin_loss(x, weights["weight"], labels, 30.0, margin)
    assert found == pytest.approx(expected, rel=0, abs=1e-5)
