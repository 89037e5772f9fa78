"""The loop that people write themselves in Paddle: `paddle.vision`'s network, GeM, a linear layer, ArcMargin and Momentum."""

import math

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from benchmarks.training_side import Setting
from zoo.published.names import naming
from zoo.specs import ModelSpec
from zoo.variants import VARIANTS
from zoo.weights import parameter_shapes


class PlainLoop:
    """Trains `setting.model` as `paddle.vision` has it.

    Args:
        spec: the model that the weights are of.
        weights: float32 arrays by canonical name, class weights included.
        setting: scale, margin and the optimiser's constants.
        clip: largest Euclidean norm of all gradients together; None: they are neither clipped nor measured.
    """

    def __init__(
        self, spec: ModelSpec, weights: dict[str, np.ndarray], setting: Setting, clip: float | None = None
    ) -> None:
        [source] = [name for name in VARIANTS[setting.model].equals if name.startswith("paddle.vision ")]
        self.spec, self.setting = spec, setting
        make = getattr(paddle.vision.models, source.removeprefix("paddle.vision "))
        self.network = make(num_classes=0, with_pool=False)
        state = self.network.state_dict()
        for theirs, ours in naming(state, spec.backbone, parameter_shapes(spec)).canonical.items():
            state[theirs].set_value(weights[ours])
        self.network.train()
        self.power, self.projection, self.centres = (
            paddle.create_parameter(list(value.shape), "float32", default_initializer=nn.initializer.Assign(value))
            for value in (weights["pool.p"], weights["neck.linear.weight"].T, weights["arc_margin.weight"])
        )
        parameters = [*self.network.parameters(), self.power, self.projection, self.centres]
        trained = [value for value in parameters if not value.stop_gradient]
        groups = [
            {"params": [value for value in trained if value.ndim > 1], "weight_decay": setting.weight_decay},
            {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = paddle.optimizer.Momentum(
            setting.learning_rate,
            setting.momentum,
            groups,
            use_nesterov=True,
            grad_clip=None if clip is None else nn.ClipGradByGlobalNorm(clip),
        )
        self.mean, self.std = (
            paddle.to_tensor(v).reshape([3, 1, 1]) for v in (spec.preprocess.mean, spec.preprocess.std)
        )

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One step on images uint8 [N, S, S, 3] and labels int64 [N]; returns the loss before it."""
        targets = paddle.to_tensor(labels)
        inputs = paddle.to_tensor(images).transpose([0, 3, 1, 2]).astype("float32")
        loss = functional.cross_entropy(self._logits((inputs / 255 - self.mean) / self.std, targets), targets)
        loss.backward()
        self.optimiser.step()
        self.optimiser.clear_grad()
        return float(loss)

    def _logits(self, inputs: Tensor, labels: Tensor) -> Tensor:
        features = self.network(inputs).clip(min=1e-6)
        pooled = features.pow(self.power).mean((2, 3)).pow(1 / self.power)
        descriptors = functional.normalize(pooled @ self.projection)
        cosines = descriptors @ functional.normalize(self.centres).T
        right, margin = paddle.take_along_axis(cosines, labels[:, None], 1), self.setting.margin
        moved = right * math.cos(margin) - (1 - right * right).clip(min=1e-7).sqrt() * math.sin(margin)
        moved = paddle.where(right > math.cos(math.pi - margin), moved, right - margin * math.sin(margin))
        own = functional.one_hot(labels, cosines.shape[1])
        return self.setting.scale * (cosines + own * (moved - right))
