"""Training in PyTorch: one SGD step on the margin loss; `training.loop` does the rest."""

import numpy as np
import torch

from torch_models.arc_margin import arc_margin_loss
from torch_models.checkpoint import load_weights, read_weights
from torch_models.embedder import Embedder
from torch_models.margins import build_margin
from training.loop import main
from training.recipes import Recipe, Step
from zoo.command import run
from zoo.preprocess import normalise
from zoo.specs import ModelSpec


class Trainer:
    """A model, its class weights, and SGD with Nesterov momentum (`training.loop.Trainer`)."""

    framework = "torch"
    version = torch.__version__

    def __init__(self, spec: ModelSpec, classes: int, recipe: Recipe, weights: dict[str, np.ndarray]) -> None:
        self.spec, self.recipe = spec, recipe
        self.model = Embedder(spec)
        self.model.arc_margin = build_margin(spec.loss, classes, spec.head.embedding_size, recipe.scale)
        load_weights(self.model, weights)
        self.parameters = dict(self.model.named_parameters())
        decayed = [value for value in self.parameters.values() if value.ndim > 1]
        others = [value for value in self.parameters.values() if value.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum, nesterov=True)
        self.model.train()

    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[float, float]:
        """One step on images uint8 [N, S, S, 3] and labels int64 [N].

        Returns:
            The loss and the accuracy (0 to 1) before the step, both with the margin applied.
        """
        inputs, targets = torch.from_numpy(normalise(images, self.spec.preprocess)), torch.from_numpy(labels)
        logits = self.model.arc_margin(self.model(inputs), targets, step.margin)
        loss = arc_margin_loss(logits, targets)
        loss.backward()
        if self.recipe.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = step.learning_rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item(), float((logits.detach().argmax(dim=1) == targets).float().mean())

    def weights(self) -> dict[str, np.ndarray]:
        """All tensors of a checkpoint, including the class weights."""
        return read_weights(self.model)

    def momentum(self) -> dict[str, np.ndarray]:
        """SGD's momentum buffer of each parameter by canonical name; empty before the first step."""
        state = self.optimiser.state
        return {n: state[p]["momentum_buffer"].numpy().copy() for n, p in self.parameters.items() if p in state}

    def load_momentum(self, momentum: dict[str, np.ndarray]) -> None:
        """Restores what `momentum` returned."""
        for name, value in momentum.items():
            self.optimiser.state[self.parameters[name]]["momentum_buffer"] = torch.from_numpy(value.copy())


if __name__ == "__main__":
    run(lambda: main(Trainer))
