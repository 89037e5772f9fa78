"""Training in Paddle: one SGD step on the margin loss; `training.loop` does the rest."""

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_models.arc_margin import arc_margin_loss
from paddle_models.checkpoint import canonical_tensors, from_paddle, load_weights, read_weights, to_paddle
from paddle_models.embedder import Embedder
from paddle_models.margins import build_margin
from training.loop import main
from training.recipes import Recipe, Step
from zoo.command import run
from zoo.preprocess import normalise
from zoo.specs import ModelSpec

_VELOCITY = "_velocity_0"
"""The suffix that Paddle appends to a parameter's own name in the optimiser's state."""


class Trainer:
    """A model, its class weights, and SGD with Nesterov momentum (`training.loop.Trainer`)."""

    framework = "paddle"
    version = paddle.__version__

    def __init__(self, spec: ModelSpec, classes: int, recipe: Recipe, weights: dict[str, np.ndarray]) -> None:
        self.spec, self.recipe = spec, recipe
        self.model = Embedder(spec)
        self.model.arc_margin = build_margin(spec.loss, classes, spec.head.embedding_size, recipe.scale)
        load_weights(self.model, weights)
        _unbias_statistics(self.model)
        # BatchNorm's running statistics are parameters in Paddle, without a gradient.
        self.parameters = {n: p for n, p in canonical_tensors(self.model).items() if not p.stop_gradient}
        decayed = [value for value in self.parameters.values() if value.ndim > 1]
        others = [value for value in self.parameters.values() if value.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = paddle.optimizer.Momentum(1.0, recipe.momentum, groups, use_nesterov=True)
        self.model.train()

    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[float, float]:
        """One step on images uint8 [N, S, S, 3] and labels int64 [N].

        Returns:
            The loss and the accuracy (0 to 1) before the step, both with the margin applied.
        """
        inputs, targets = paddle.to_tensor(normalise(images, self.spec.preprocess)), paddle.to_tensor(labels)
        logits = self.model.arc_margin(self.model(inputs), targets, step.margin)
        loss = arc_margin_loss(logits, targets)
        loss.backward()
        if self.recipe.gradient_clip is not None:
            paddle.nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.gradient_clip)
        self.optimiser.set_lr(step.learning_rate)
        self.optimiser.step()
        self.optimiser.clear_grad()
        return float(loss), float((logits.detach().argmax(axis=1) == targets).astype("float32").mean())

    def weights(self) -> dict[str, np.ndarray]:
        """All tensors of a checkpoint, including the class weights."""
        return read_weights(self.model)

    def momentum(self) -> dict[str, np.ndarray]:
        """SGD's momentum buffer of each parameter by canonical name; empty before the first step."""
        state = self.optimiser.state_dict()
        keys = {name: parameter.name + _VELOCITY for name, parameter in self.parameters.items()}
        return {name: from_paddle(name, state[key].numpy()) for name, key in keys.items() if key in state}

    def load_momentum(self, momentum: dict[str, np.ndarray]) -> None:
        """Restores what `momentum` returned."""
        names = {name: self.parameters[name].name + _VELOCITY for name in momentum}
        self.optimiser.set_state_dict({key: paddle.to_tensor(to_paddle(n, momentum[n])) for n, key in names.items()})


def _unbias_statistics(model: nn.Layer) -> None:
    """Makes BatchNorm's running variance follow the unbiased batch variance, as in PyTorch; Paddle's is biased."""

    before: dict[nn.Layer, Tensor] = {}

    def remember(layer: nn.Layer, inputs: tuple[Tensor]) -> None:
        before[layer] = layer._variance.clone()

    def correct(layer: nn.Layer, inputs: tuple[Tensor], output: Tensor) -> None:
        if layer.training:
            count, kept = output.size // output.shape[1], before[layer] * layer._momentum
            layer._variance.set_value(kept + (layer._variance - kept) * (count / max(count - 1, 1)))

    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm1D | nn.BatchNorm2D):
            layer.register_forward_pre_hook(remember)
            layer.register_forward_post_hook(correct)


if __name__ == "__main__":
    run(lambda: main(Trainer))
