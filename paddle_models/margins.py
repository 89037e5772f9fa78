"""The other margin losses, and the function that builds the one of a spec."""

import math

import paddle
from paddle import Tensor, nn

from paddle_models.arc_margin import ArcMargin, add_angle, with_target
from zoo.constants import MOVING_AVERAGE, first_adaptive_scale
from zoo.specs import LossSpec


class CosFace(ArcMargin):
    """The margin is subtracted from the cosine (CosFace, arXiv 1801.09414, eq. 4)."""

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits float [N, classes] of descriptors [N, embedding_size] and labels int64 [N]."""
        cosine = self.cosine(descriptors)
        return self.scale * with_target(
            cosine, labels, paddle.take_along_axis(cosine, labels[:, None], axis=1) - margin
        )


class CurricularFace(ArcMargin):
    """ArcFace with hard negatives that gain weight during training (arXiv 2004.00288, eq. 7 to 10).

    `mean_cosine` float [1] is the moving average of the right classes' cosines, updated only in training mode.
    """

    def __init__(self, classes: int, embedding_size: int, scale: float) -> None:
        super().__init__(classes, embedding_size, scale)
        self.register_buffer("mean_cosine", paddle.zeros([1]))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits float [N, classes] of descriptors [N, embedding_size] and labels int64 [N]."""
        cosine = self.cosine(descriptors)
        right = paddle.take_along_axis(cosine, labels[:, None], axis=1)
        if self.training:
            self.mean_cosine = (MOVING_AVERAGE * self.mean_cosine + (1 - MOVING_AVERAGE) * right.mean()).detach()
        sine = (1 - right * right).clip(min=0.0).sqrt()
        hard = cosine > right * math.cos(margin) - sine * math.sin(margin)
        cosine = paddle.where(hard, cosine * (self.mean_cosine + cosine), cosine)
        return self.scale * with_target(cosine, labels, add_angle(right, paddle.full_like(right, margin)))


class AdaCos(ArcMargin):
    """No margin, and a scale that adapts during training (arXiv 1905.00292, eq. 15).

    `adaptive_scale` float [1] starts at √2 · log(classes - 1) and is updated only in training mode.
    """

    def __init__(self, classes: int, embedding_size: int) -> None:
        super().__init__(classes, embedding_size, scale=1.0)
        self.register_buffer("adaptive_scale", paddle.full([1], first_adaptive_scale(classes)))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits float [N, classes] of descriptors [N, embedding_size] and labels int64 [N]; `margin` is ignored."""
        cosine = self.cosine(descriptors)
        if self.training:
            self.adaptive_scale = self._moved(cosine.detach(), labels)
        return self.adaptive_scale * cosine

    def _moved(self, cosine: Tensor, labels: Tensor) -> Tensor:
        right = paddle.take_along_axis(cosine, labels[:, None], axis=1)
        wrong = (self.adaptive_scale * cosine).exp().sum(axis=1) - (self.adaptive_scale * right).exp()[:, 0]
        # The lower median: the frameworks' own medians differ for an even number of values.
        angles = right[:, 0].clip(-1.0, 1.0).acos().sort()
        median = angles[(len(angles) - 1) // 2].clip(max=math.pi / 4)
        return (wrong.mean().log() / median.cos()).reshape([1])


def build_margin(loss: LossSpec, classes: int, embedding_size: int, scale: float) -> nn.Layer:
    """The layer that computes the logits of a loss; `arc_margin_loss` turns them into the loss."""
    if loss.kind == "ada_cos":
        return AdaCos(classes, embedding_size)
    if loss.kind in ("cos_face", "curricular_face"):
        return {"cos_face": CosFace, "curricular_face": CurricularFace}[loss.kind](classes, embedding_size, scale)
    return ArcMargin(classes, embedding_size, scale, loss.sub_centers, loss.kind == "dynamic_arc_face")
