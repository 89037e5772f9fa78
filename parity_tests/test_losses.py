"""The margin losses of both frameworks: values and gradients.

ArcFace, CosFace and Sub-center ArcFace are compared with pytorch-metric-learning, which has none of the others; all losses
are compared with numpy, whose gradients are central differences.
"""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from parity_tests import oracle
from parity_tests.libraries import import_metric_learning
from zoo.specs import LossSpec
from zoo.variants import get_spec
from zoo.weights import LOSS_PREFIX, dynamic_margins, initial_weights

CLASSES, SIZE, SCALE, MARGIN = 5, 8, 24.0, 0.3
LABELS = np.array([2, 1, 0, 4, 3, 2, 1])
COUNTS = [40, 3, 17, 3, 250]
SPECS = {
    "arc_face": LossSpec(),
    "cos_face": LossSpec("cos_face"),
    "sub_center": LossSpec("arc_face", sub_centers=3),
    "curricular_face": LossSpec("curricular_face"),
    "ada_cos": LossSpec("ada_cos"),
    "dynamic_arc_face": LossSpec("dynamic_arc_face"),
    "dynamic_sub_center": LossSpec("dynamic_arc_face", sub_centers=2),
}
VALUE, GRADIENT, DIFFERENCES = 1e-10, 1e-9, 1e-6
"""Absolute in float64, for gradients up to 10; due to numpy's central differences with steps of 1e-6."""


def first_state(spec: LossSpec) -> dict[str, np.ndarray]:
    """A loss's initial state, without its class weights."""
    values = initial_weights(replace(get_spec("resnet10_narrow"), loss=spec), COUNTS, seed=0)
    kept = {name.removeprefix(LOSS_PREFIX): value for name, value in values.items() if name.startswith(LOSS_PREFIX)}
    return {name: value.astype(np.float64) for name, value in kept.items() if name != "weight"}


class Loss:
    """One framework's loss in float64 on numpy arrays."""

    def __init__(self, framework: str, spec: LossSpec, weights: np.ndarray) -> None:
        self.library = importlib.import_module(framework)
        self.torch = framework == "torch"
        self.mean = importlib.import_module(f"{framework}_models.distributed").cross_entropy
        build = importlib.import_module(f"{framework}_models.margins").build_margin
        self.module = build(spec, CLASSES, SIZE, SCALE)
        self.module = self.module.double() if self.torch else self.module.to(dtype="float64")
        load = importlib.import_module(f"{framework}_models.checkpoint").load_weights
        load(self.module, {"weight": weights, **first_state(spec)})
        self.module.train()

    def tensor(self, values: np.ndarray):
        return self.library.from_numpy(values.copy()) if self.torch else self.library.to_tensor(values)

    def __call__(self, descriptors: np.ndarray, margin: float) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss and its gradients with respect to descriptors and class weights."""
        inputs, labels = self.tensor(descriptors), self.tensor(LABELS)
        if self.torch:
            inputs.requires_grad_()
        else:
            inputs.stop_gradient = False
        loss, _ = self.mean(self.module(inputs, labels, margin))
        loss.backward()
        return float(loss.detach()), inputs.grad.numpy(), self.module.weight.grad.numpy()

    def state(self, name: str) -> np.ndarray:
        return getattr(self.module, name).numpy()


def inputs(spec: LossSpec) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors near their class, opposite to it, and random; and class weights."""
    random = np.random.default_rng(6)
    weights = random.normal(size=(CLASSES * spec.sub_centers, SIZE))
    descriptors = random.normal(size=(len(LABELS), SIZE))
    descriptors[0] = -weights[LABELS[0] * spec.sub_centers] + 0.05 * descriptors[0]  # angle plus margin exceeds π
    descriptors[1] = weights[LABELS[1] * spec.sub_centers] + 0.1 * descriptors[1]
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True), weights


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("name", ["arc_face", "cos_face", "sub_center"])
@pytest.mark.parametrize("margin", [0.0, 0.15, 0.5])
def test_against_pytorch_metric_learning(framework, name, margin):
    import torch

    losses, spec = import_metric_learning(), SPECS[name]
    descriptors, weights = inputs(spec)
    options = {"num_classes": CLASSES, "embedding_size": SIZE, "scale": SCALE, "margin": np.rad2deg(margin)}
    if name == "cos_face":
        theirs = losses.CosFaceLoss(**options | {"margin": margin})
    elif name == "arc_face":
        theirs = losses.ArcFaceLoss(**options)
    else:
        theirs = losses.SubCenterArcFaceLoss(**options, sub_centers=spec.sub_centers)
    theirs.W.data = torch.from_numpy(weights.T.copy())
    tensor = torch.from_numpy(descriptors.copy()).requires_grad_()
    expected = theirs(tensor, torch.from_numpy(LABELS))
    expected.backward()
    value, by_descriptors, by_weights = Loss(framework, spec, weights)(descriptors, margin)
    assert value == pytest.approx(expected.item(), rel=0, abs=VALUE)
    np.testing.assert_allclose(by_descriptors, tensor.grad.numpy(), rtol=0, atol=GRADIENT)
    np.testing.assert_allclose(by_weights, theirs.W.grad.numpy().T, rtol=0, atol=GRADIENT)


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("name", SPECS)
def test_against_the_papers(framework, name):
    spec = SPECS[name]
    descriptors, weights = inputs(spec)
    loss, state = Loss(framework, spec, weights), first_state(spec)
    for _ in range(3):  # some losses' state changes with each step
        state = oracle.moved_loss_state(spec, state, descriptors, weights, LABELS)
        value, *_ = loss(descriptors, MARGIN)
        for key, kept in state.items():
            np.testing.assert_allclose(loss.state(key), kept, rtol=0, atol=VALUE, err_msg=key)
        expected = oracle.margin_loss(spec, state, descriptors, weights, LABELS, SCALE, MARGIN)
        assert value == pytest.approx(expected, rel=0, abs=VALUE)


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("name", SPECS)
def test_gradients_against_differences(framework, name):
    spec = SPECS[name]
    descriptors, weights = inputs(spec)
    state = oracle.moved_loss_state(spec, first_state(spec), descriptors, weights, LABELS)
    _, by_descriptors, by_weights = Loss(framework, spec, weights)(descriptors, MARGIN)

    def value(x: np.ndarray, w: np.ndarray) -> float:
        return oracle.margin_loss(spec, state, x, w, LABELS, SCALE, MARGIN)

    expected = oracle.differences(lambda x: value(x, weights), descriptors)
    np.testing.assert_allclose(by_descriptors, expected, rtol=0, atol=DIFFERENCES)
    expected = oracle.differences(lambda w: value(descriptors, w), weights)
    np.testing.assert_allclose(by_weights, expected, rtol=0, atol=DIFFERENCES)


def test_both_frameworks_have_the_same_gradients():
    for spec in SPECS.values():
        descriptors, weights = inputs(spec)
        ours, theirs = (Loss(framework, spec, weights)(descriptors, MARGIN) for framework in ("torch", "paddle"))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(other, mine, rtol=0, atol=GRADIENT, err_msg=spec.kind)


def test_a_rare_class_has_the_whole_margin():
    np.testing.assert_allclose(dynamic_margins(COUNTS), (np.array(COUNTS) / 3) ** -0.25, rtol=0, atol=1e-15)
