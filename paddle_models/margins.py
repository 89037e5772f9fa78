"""The other margin losses, and the function that builds the one of a spec."""

import math

import paddle
from paddle import Tensor, nn

from paddle_models.arc_margin import ArcMargin, add_angle, picked, with_target
from paddle_models.distributed import ALONE, Group, MarginLogits
from training.classes import own_classes
from zoo.constants import MOVING_AVERAGE, first_adaptive_scale
from zoo.specs import LossSpec


class CosFace(ArcMargin):
    """The margin is subtracted from the cosine (CosFace, arXiv 1801.09414, eq. 4)."""

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float, drawn: Tensor | None = None) -> MarginLogits:
        """Logits of descriptors [N, embedding_size] and labels int64 [N]; the arguments are `ArcMargin`'s."""
        logits, columns = self.logits(descriptors, labels, drawn)
        return with_target(logits, columns, picked(logits, columns), lambda value: value - self.scale * margin)


class CurricularFace(ArcMargin):
    """ArcFace with hard negatives that gain weight during training (arXiv 2004.00288, eq. 7 to 10).

    `mean_cosine` float [1] is the moving average of the right classes' cosines, updated only in training mode.
    """

    def __init__(self, classes: range, embedding_size: int, scale: float, group: Group = ALONE) -> None:
        super().__init__(classes, embedding_size, scale, group=group)
        self.register_buffer("mean_cosine", paddle.zeros([1]))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float, drawn: Tensor | None = None) -> MarginLogits:
        """Logits of descriptors [N, embedding_size] and labels int64 [N]; the arguments are `ArcMargin`'s."""
        logits, columns = self.logits(descriptors, labels, drawn)
        right = self.group.total(picked(logits, columns)) / self.scale
        if self.training:
            self.mean_cosine = MOVING_AVERAGE * self.mean_cosine + (1 - MOVING_AVERAGE) * right.mean()
        sine = (1 - right * right).clip(min=0.0).sqrt()
        hard = logits > (self.scale * (right * math.cos(margin) - sine * math.sin(margin)))[:, None]
        hard = hard & (paddle.arange(hard.shape[1]) != columns[:, None])  # the right class is no negative
        logits = paddle.where(hard, logits * (self.mean_cosine + logits / self.scale), logits)
        margins = paddle.full_like(right, margin)
        return with_target(
            logits, columns, self.scale * right, lambda value: self.scale * add_angle(value / self.scale, margins)
        )


class AdaCos(ArcMargin):
    """No margin, and a scale that adapts during training (arXiv 1905.00292, eq. 15).

    `adaptive_scale` float [1] starts at √2 · log(classes - 1) and is updated only in training mode.
    """

    def __init__(self, classes: range, embedding_size: int, every_class: int, group: Group = ALONE) -> None:
        super().__init__(classes, embedding_size, scale=1.0, group=group)
        self.register_buffer("adaptive_scale", paddle.full([1], first_adaptive_scale(every_class)))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float, drawn: Tensor | None = None) -> MarginLogits:
        """Logits of descriptors [N, embedding_size] and labels int64 [N]; `margin` is ignored."""
        cosine, columns = self.logits(descriptors, labels, drawn)
        if self.training:
            self.adaptive_scale = self._moved(cosine.detach(), columns)
        logits = self.adaptive_scale * cosine
        return with_target(logits, columns, picked(logits, columns), lambda value: value * 1.0)

    def _moved(self, cosine: Tensor, columns: Tensor) -> Tensor:
        right = picked(cosine, columns)
        own = (self.adaptive_scale * right).exp() * (columns >= 0).astype(right.dtype)
        wrong = (self.adaptive_scale * cosine).exp().sum(axis=1) - own
        right, wrong = self.group.total(paddle.stack([right, wrong])).unbind()
        # The lower median: the frameworks' own medians differ for an even number of values.
        angles = right.clip(-1.0, 1.0).acos().sort()
        median = angles[(len(angles) - 1) // 2].clip(max=math.pi / 4)
        return (wrong.mean().log() / median.cos()).reshape([1])


def build_margin(loss: LossSpec, classes: int, embedding_size: int, scale: float, group: Group = ALONE) -> nn.Layer:
    """The layer that computes the logits of a loss; `cross_entropy` turns them into the loss.

    Args:
        loss: the spec.
        classes: number of classes of all processes; this one has those of `training.classes.own_classes`.
        embedding_size: length of the descriptors.
        scale: factor that turns cosines into logits.
        group: the processes.
    """
    own = own_classes(classes, group.rank, group.size)
    if loss.kind == "ada_cos":
        return AdaCos(own, embedding_size, classes, group)
    if loss.kind in ("cos_face", "curricular_face"):
        kinds = {"cos_face": CosFace, "curricular_face": CurricularFace}
        return kinds[loss.kind](own, embedding_size, scale, group=group)
    dynamic = loss.kind == "dynamic_arc_face"
    return ArcMargin(own, embedding_size, scale, loss.sub_centers, dynamic, group)
