"""ArcMargin, the additive angular margin loss (ArcFace, arXiv 1801.07698, eq. 3)."""

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from paddle_models.layers import unit_norm
from zoo.constants import NORM_EPSILON, SINE_EPSILON


class ArcMargin(nn.Layer):
    """Class weights float [classes · sub_centers, embedding_size], which turn descriptors into logits.

    Args:
        classes: number of classes.
        embedding_size: length of the descriptors.
        scale: factor that turns cosines into logits.
        sub_centers: class weights per class, of which the nearest counts (Sub-center ArcFace, ECCV 2020, eq. 4).
        dynamic: the margin is multiplied by `class_margin` float [classes] (arXiv 2010.05350, §2.2).
    """

    def __init__(
        self, classes: int, embedding_size: int, scale: float, sub_centers: int = 1, dynamic: bool = False
    ) -> None:
        super().__init__()
        self.scale, self.sub_centers, self.dynamic = scale, sub_centers, dynamic
        initial = nn.initializer.Normal(std=embedding_size**-0.5)
        shape = [classes * sub_centers, embedding_size]
        self.weight = self.create_parameter(shape, default_initializer=initial)
        if dynamic:
            self.register_buffer("class_margin", paddle.ones([classes]))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits of all classes, with the margin added to the angle of the right class.

        If angle + margin exceeds π, the cosine continues as a straight line, so that the loss stays monotonic.

        Args:
            descriptors: float [N, embedding_size].
            labels: int64 [N], class indices.
            margin: in radians.

        Returns:
            float [N, classes], between -scale and scale, except on the straight line.
        """
        cosine = self.cosine(descriptors)
        right = paddle.take_along_axis(cosine, labels[:, None], axis=1)
        margins = paddle.full_like(right, margin)
        if self.dynamic:
            margins = margins * paddle.gather(self.class_margin, labels)[:, None]
        return self.scale * with_target(cosine, labels, add_angle(right, margins))

    def cosine(self, descriptors: Tensor) -> Tensor:
        """Cosines float [N, classes] between each descriptor and the nearest centre of each class."""
        cosine = unit_norm(descriptors, NORM_EPSILON) @ unit_norm(self.weight, NORM_EPSILON).T
        if self.sub_centers == 1:
            return cosine
        return cosine.reshape([len(descriptors), -1, self.sub_centers]).max(axis=2)


def add_angle(right: Tensor, margins: Tensor) -> Tensor:
    """cos(angle + margin) of cosines [N, 1]; continued as a straight line if the sum exceeds π."""
    sine = (1 - right * right).clip(min=SINE_EPSILON).sqrt()
    moved = right * margins.cos() - sine * margins.sin()
    return paddle.where(right > (math.pi - margins).cos(), moved, right - margins.sin() * margins)


def with_target(cosine: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """Cosines [N, classes] with those of the right classes replaced by `target` [N, 1]."""
    chosen = functional.one_hot(labels, cosine.shape[1]).astype(cosine.dtype)
    return cosine * (1 - chosen) + chosen * target


def arc_margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy: float [N, classes] and int64 [N] → float scalar.

    Not the framework's own function, because Paddle's clips differences of logits at 64 on CPUs, and at scale 30 they
    can be larger, since the straight line goes below -scale.
    """
    return (paddle.logsumexp(logits, axis=1) - paddle.take_along_axis(logits, labels[:, None], axis=1)[:, 0]).mean()
