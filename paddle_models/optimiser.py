"""The optimiser of a training with its state by canonical name, and the moving average of the weights."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import paddle
from paddle import Tensor

from training.recipes import Recipe

SLOTS = {"sgd": ("momentum",), "adamw": ("momentum", "second")}
"""What each optimiser keeps per parameter: SGD's velocity; AdamW's first and second moment."""
_NAMES = {"sgd": ("velocity_0",), "adamw": ("moment1_0", "moment2_0")}
"""The suffixes that Paddle appends to a parameter's own name in the optimiser's state."""
_POWERS = ("beta1_pow_acc_0", "beta2_pow_acc_0")
_EPSILON = 1e-8


class Optimiser:
    """SGD with Nesterov momentum, or AdamW, on parameters by canonical name.

    Matrices and convolutions are decayed; BatchNorm, biases and GeM's exponent are not.

    Args:
        parameters: the trained ones by canonical name.
        recipe: the optimiser, its constants and the learning rates of the parts.
    """

    def __init__(self, parameters: Mapping[str, Tensor], recipe: Recipe) -> None:
        self.kind, self.parameters, self.updates = recipe.optimiser, dict(parameters), 0
        self._betas = (recipe.momentum, recipe.beta2)
        groups: dict[tuple[bool, float], list[Tensor]] = {}
        for name, value in parameters.items():
            groups.setdefault((value.ndim > 1, recipe.rate_factor(name)), []).append(value)
        made: Any = [
            {"params": values, "weight_decay": recipe.weight_decay if decayed else 0.0, "learning_rate": factor}
            for (decayed, factor), values in groups.items()
        ]
        self._framework: paddle.optimizer.Optimizer
        if recipe.optimiser == "adamw":
            beta1, beta2 = self._betas
            self._framework = paddle.optimizer.AdamW(1.0, beta1, beta2, _EPSILON, made)
        else:
            self._framework = paddle.optimizer.Momentum(1.0, recipe.momentum, made, use_nesterov=True)
        # Made here: Paddle would make them in the first step, and a state is restored before that.
        block, own_groups = paddle.base.framework.default_main_program().global_block(), self._framework._param_groups
        for group in cast(list[dict], own_groups):
            self._framework._create_accumulators(block, group["params"])

    def step(self, learning_rate: float, skip: Tensor | None = None) -> None:
        """One update from the parameters' gradients, which are cleared.

        Args:
            learning_rate: of a part whose factor is 1.
            skip: float scalar; the update is left out if it is 1. Paddle has to wait for it.
        """
        if skip is None or not float(skip):
            self._framework.set_lr(learning_rate)
            self._framework.step()
        self._framework.clear_grad(set_to_zero=False)  # zeros would be written now, and added to in the next step
        self.updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """The state (not copies) as `<slot>/<canonical name>`, in Paddle's layout."""
        state = self._framework.state_dict()
        pairs = list(zip(SLOTS[self.kind], _NAMES[self.kind], strict=True))
        return {
            f"{slot}/{name}": state[f"{value.name}_{key}"]
            for slot, key in pairs
            for name, value in self.parameters.items()
        }

    def restore(self, updates: int) -> None:
        """Sets the number of updates, on which AdamW's bias correction depends; the tensors are copied into `tensors`."""
        self.updates = updates
        if self.kind == "adamw":
            state = self._framework.state_dict()
            for beta, key in zip(self._betas, _POWERS, strict=True):
                for value in self.parameters.values():
                    held = state[f"{value.name}_{key}"]
                    # The product as Paddle computes it, one update at a time.
                    factors = np.full(updates + 1, beta, held.numpy().dtype)
                    held.set_value(np.multiply.reduce(factors).reshape(held.shape))

    def reset(self) -> None:
        """Forgets all updates."""
        for tensor in self.tensors().values():
            tensor.zero_()
        self.restore(0)


class MovingAverage:
    """The exponential moving average of tensors; after few updates the decay is smaller, as in TensorFlow.

    Args:
        tensors: what is averaged, by name; the average starts from copies.
        decay: of the average, per update.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @paddle.no_grad()
    def update(self, tensors: Iterable[Tensor], updates: int) -> None:
        """Moves the average towards `tensors`, which are in the order of the names, after a number of updates from 1."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for average, tensor in zip(self.tensors.values(), tensors, strict=True):
            average.add_((tensor - average) * (1 - decay))
