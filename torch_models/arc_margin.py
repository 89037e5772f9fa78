"""ArcMargin, the additive angular margin loss (ArcFace, arXiv 1801.07698, eq. 3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_models.layers import unit_norm
from zoo.constants import NORM_EPSILON, SINE_EPSILON


class ArcMargin(nn.Module):
    """Class weights float [classes · sub_centers, embedding_size] and the logits that they give a descriptor.

    Args:
        classes: to tell apart.
        embedding_size: of the descriptors.
        scale: of the cosines.
        sub_centers: class weights a class; the nearest one counts (Sub-center ArcFace, ECCV 2020, eq. 4).
        dynamic: each class takes its own share of the margin, `class_margin` float [classes] (arXiv 2010.05350, §2.2).
    """

    def __init__(
        self, classes: int, embedding_size: int, scale: float, sub_centers: int = 1, dynamic: bool = False
    ) -> None:
        super().__init__()
        self.scale, self.sub_centers, self.dynamic = scale, sub_centers, dynamic
        self.weight = nn.Parameter(torch.empty(classes * sub_centers, embedding_size))
        nn.init.normal_(self.weight, std=embedding_size**-0.5)
        if dynamic:
            self.register_buffer("class_margin", torch.ones(classes))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits of the classes, the right one's angle enlarged by the margin.

        Where angle + margin would pass π, the cosine goes on as a straight line, so that the loss stays monotonic.

        Args:
            descriptors: float [N, embedding_size].
            labels: int64 [N].
            margin: in radians.

        Returns:
            float [N, classes], from -scale to scale but for the straight line.
        """
        cosine = self.cosine(descriptors)
        right = cosine.gather(1, labels[:, None])
        margins = torch.full_like(right, margin)
        if self.dynamic:
            margins = margins * self.class_margin[labels][:, None]
        return self.scale * with_target(cosine, labels, add_angle(right, margins))

    def cosine(self, descriptors: Tensor) -> Tensor:
        """float [N, classes]: the cosine to each class' nearest centre."""
        cosine = unit_norm(descriptors, NORM_EPSILON) @ unit_norm(self.weight, NORM_EPSILON).T
        if self.sub_centers == 1:
            return cosine
        return cosine.reshape(len(descriptors), -1, self.sub_centers).amax(dim=2)


def add_angle(right: Tensor, margins: Tensor) -> Tensor:
    """cos(angle + margin) of cosines [N, 1]; a straight line where the sum would pass π."""
    sine = (1 - right.square()).clamp(min=SINE_EPSILON).sqrt()
    moved = right * margins.cos() - sine * margins.sin()
    return torch.where(right > (math.pi - margins).cos(), moved, right - margins.sin() * margins)


def with_target(cosine: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """Cosines [N, classes] with the right class' replaced by [N, 1]."""
    chosen = functional.one_hot(labels, cosine.shape[1]).to(cosine.dtype)
    return cosine * (1 - chosen) + chosen * target


def arc_margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy: float [N, classes] and int64 [N] → float scalar.

    Written out, because Paddle's own on CPUs takes no difference of logits for more than 64, and at scale 30 an image
    opposite to its class has more.
    """
    return (logits.logsumexp(dim=1) - logits.gather(1, labels[:, None])[:, 0]).mean()
