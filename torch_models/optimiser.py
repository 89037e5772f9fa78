"""The optimiser of a training with its state by canonical name, and the moving average of the weights."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from training.recipes import Recipe

SLOTS = {"sgd": ("momentum",), "adamw": ("momentum", "second")}
"""What each optimiser keeps per parameter: SGD's velocity; AdamW's first and second moment."""
_NAMES = {"sgd": ("momentum_buffer",), "adamw": ("exp_avg", "exp_avg_sq")}
_EPSILON = 1e-8


class Optimiser:
    """SGD with Nesterov momentum, or AdamW, on parameters by canonical name.

    Matrices and convolutions are decayed; BatchNorm, biases and GeM's exponent are not.

    Args:
        parameters: the trained ones by canonical name.
        recipe: the optimiser, its constants and the learning rates of the parts.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
        self.kind, self.parameters, self.updates = recipe.optimiser, dict(parameters), 0
        self._views = {name: _in_memory_order(value.detach(), value) for name, value in parameters.items()}
        groups: dict[tuple[bool, float], list[Tensor]] = {}
        for name, value in self._views.items():
            groups.setdefault((value.ndim > 1, recipe.rate_factor(name)), []).append(value)
        made = [
            {"params": values, "weight_decay": recipe.weight_decay if decayed else 0.0, "factor": factor}
            for (decayed, factor), values in groups.items()
        ]
        self._framework: torch.optim.Optimizer
        if recipe.optimiser == "adamw":
            betas = (recipe.momentum, recipe.beta2)
            self._framework = torch.optim.AdamW(made, lr=1.0, betas=betas, eps=_EPSILON, fused=True)
        else:
            self._framework = torch.optim.SGD(made, lr=1.0, momentum=recipe.momentum, nesterov=True, fused=True)
        # Made here, because a first step that is skipped would leave PyTorch's own uninitialised.
        for value in self._views.values():
            state = self._framework.state[value]
            state.update({name: torch.zeros_like(value) for name in _NAMES[self.kind]})
            if self.kind == "adamw":
                state["step"] = torch.zeros((), dtype=torch.float32, device=value.device)

    def step(self, learning_rate: float, skip: Tensor | None = None) -> None:
        """One update from the parameters' gradients, which are cleared.

        Args:
            learning_rate: of a part whose factor is 1.
            skip: float scalar; the update is left out if it is 1, without waiting for the device.
        """
        for group in self._framework.param_groups:
            group["lr"] = learning_rate * group["factor"]
        if skip is not None:
            setattr(self._framework, "found_inf", skip)  # noqa: B010 (the fused kernels read it, as for GradScaler)
        for value, view in zip(self.parameters.values(), self._views.values(), strict=True):
            view.grad = None if value.grad is None else _in_memory_order(value.grad, value).contiguous()
            value.grad = None
        self._framework.step()
        self._framework.zero_grad()
        self.updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """The state (not copies) as `<slot>/<canonical name>`."""
        pairs = list(zip(SLOTS[self.kind], _NAMES[self.kind], strict=True))
        state = self._framework.state
        return {
            f"{slot}/{name}": _in_usual_order(state[self._views[name]][key], value)
            for slot, key in pairs
            for name, value in self.parameters.items()
        }

    def restore(self, updates: int) -> None:
        """Sets the number of updates, on which AdamW's bias correction depends; the tensors are copied into `tensors`."""
        self.updates = updates
        if self.kind == "adamw":
            for value in self._views.values():
                self._framework.state[value]["step"].fill_(updates)

    def reset(self) -> None:
        """Forgets all updates."""
        for tensor in self.tensors().values():
            tensor.zero_()
        self.restore(0)


def _in_memory_order(values: Tensor, parameter: Tensor) -> Tensor:
    """A view of a tensor of a parameter's shape whose axes are in the order in which the parameter lies in memory.

    PyTorch's fused optimisers walk through memory on CPUs and take no notice of layouts: of a gradient whose layout differs from
    its parameter's they would silently make a wrong update, and of every channels-last gradient they make a copy that they
    then do not use (aten/src/ATen/native/cpu/FusedSGDKernel.cpp in PyTorch 2.14). With contiguous views neither happens.
    """
    return values if parameter.is_contiguous() else values.permute(0, 2, 3, 1)


def _in_usual_order(values: Tensor, parameter: Tensor) -> Tensor:
    """The inverse of `_in_memory_order`."""
    return values if parameter.is_contiguous() else values.permute(0, 3, 1, 2)


class MovingAverage:
    """The exponential moving average of tensors; after few updates the decay is smaller, as in TensorFlow.

    Args:
        tensors: what is averaged, by name; the average starts from copies.
        decay: of the average, per update.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Iterable[Tensor], updates: int) -> None:
        """Moves the average towards `tensors`, which are in the order of the names, after a number of updates from 1."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, current = list(self.tensors.values()), [tensor.detach() for tensor in tensors]
        torch._foreach_lerp_(averages, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
