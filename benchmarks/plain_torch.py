"""The loop that people write themselves in PyTorch: timm's network, GeM, a linear layer, ArcMargin and SGD, nothing else.

It computes what `torch_models.train.Trainer` computes on one process, and gets the same two options, channels-last features and
fused SGD, because with others the comparison would measure the options.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training_side import Setting
from parity_tests.torchvision_operators import without_operators
from zoo.published.names import naming
from zoo.specs import ModelSpec
from zoo.variants import VARIANTS
from zoo.weights import parameter_shapes


class PlainLoop:
    """Trains `setting.model` as timm has it.

    Args:
        spec: the model that the weights are of.
        weights: float32 arrays by canonical name, class weights included.
        setting: scale, margin and the optimiser's constants.
        clip: largest Euclidean norm of all gradients together; None: they are neither clipped nor measured.
    """

    def __init__(
        self, spec: ModelSpec, weights: dict[str, np.ndarray], setting: Setting, clip: float | None = None
    ) -> None:
        without_operators()
        import timm

        [source] = [name for name in VARIANTS[setting.model].equals if name.startswith("timm ")]
        self.spec, self.setting, self.clip = spec, setting, clip
        network = timm.create_model(source.removeprefix("timm "), num_classes=0, global_pool="")
        state = network.state_dict()
        for theirs, ours in naming(state, spec.backbone, parameter_shapes(spec)).canonical.items():
            state[theirs].copy_(torch.from_numpy(weights[ours]))
        self.network = network.to(memory_format=torch.channels_last).train()
        self.power = nn.Parameter(torch.from_numpy(weights["pool.p"].copy()))
        self.projection = nn.Parameter(torch.from_numpy(weights["neck.linear.weight"].copy()))
        self.centres = nn.Parameter(torch.from_numpy(weights["arc_margin.weight"].copy()))
        self.parameters = [*network.parameters(), self.power, self.projection, self.centres]
        groups = [
            {"params": [value for value in self.parameters if value.ndim > 1], "weight_decay": setting.weight_decay},
            {"params": [value for value in self.parameters if value.ndim <= 1]},
        ]
        self.optimiser = torch.optim.SGD(groups, setting.learning_rate, setting.momentum, nesterov=True, fused=True)
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (spec.preprocess.mean, spec.preprocess.std))

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One step on images uint8 [N, S, S, 3] and labels int64 [N]; returns the loss before it."""
        targets = torch.from_numpy(labels)
        inputs = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        self.optimiser.zero_grad()
        loss = functional.cross_entropy(self._logits(inputs, targets), targets)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimiser.step()
        return loss.item()

    def _logits(self, inputs: Tensor, labels: Tensor) -> Tensor:
        features = self.network(inputs).clamp(min=1e-6)
        pooled = features.pow(self.power).mean((2, 3)).pow(1 / self.power)
        descriptors = functional.normalize(pooled @ self.projection.T)
        cosines = descriptors @ functional.normalize(self.centres).T
        right, margin = cosines.gather(1, labels[:, None]), self.setting.margin
        moved = right * math.cos(margin) - (1 - right**2).clamp(min=1e-7).sqrt() * math.sin(margin)
        moved = torch.where(right > math.cos(math.pi - margin), moved, right - margin * math.sin(margin))
        return self.setting.scale * cosines.scatter(1, labels[:, None], moved)
