"""The norm of large gradients, and updates of parameters whose layout in memory is not the usual one."""

import dataclasses

import numpy as np
import paddle
import pytest
import torch

import paddle_models.distributed
import torch_models.distributed
import torch_models.optimiser
from parity_tests.test_training import RECIPE

LARGE = 2**25
"""Values; one float32 that sums their squares one after the other stays at 2^24 if each is 1."""


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_the_squares_of_many_values_are_all_counted(framework):
    module, ones = {
        "torch": (torch_models.distributed, torch.ones(LARGE)),
        "paddle": (paddle_models.distributed, paddle.ones([LARGE])),
    }[framework]
    assert float(module.sums_of_squares([ones, ones[:3]])) == pytest.approx(LARGE + 3, rel=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("gradient_layout", [torch.channels_last, torch.contiguous_format], ids=["same", "other"])
def test_a_channels_last_parameter_gets_the_usual_update(kind, gradient_layout):
    """PyTorch's fused kernels give another one if only one of parameter and gradient is channels-last."""
    recipe = dataclasses.replace(RECIPE, optimiser=kind)
    random = np.random.default_rng(0)
    first, gradient = (torch.from_numpy(random.normal(size=(8, 4, 3, 3)).astype(np.float32)) for _ in range(2))
    found = {}
    for layout, of_gradient in (
        (torch.contiguous_format, torch.contiguous_format),
        (torch.channels_last, gradient_layout),
    ):
        value = torch.nn.Parameter(first.clone(memory_format=layout))
        optimiser = torch_models.optimiser.Optimiser({"backbone.conv1.weight": value}, recipe)
        for _ in range(3):
            value.grad = gradient.clone(memory_format=of_gradient)
            optimiser.step(0.1)
        state = {name: tensor.numpy() for name, tensor in optimiser.tensors().items()}
        found[layout] = {"value": value.detach().numpy(), **state}
    usual, other = found[torch.contiguous_format], found[torch.channels_last]
    assert usual.keys() == other.keys()
    for name, value in usual.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-6, err_msg=name)
    assert np.abs(usual["value"] - first.numpy()).max() > 0.1
