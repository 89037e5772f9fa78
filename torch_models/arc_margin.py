"""ArcMargin, the additive angular margin loss (ArcFace, arXiv 1801.07698, eq. 3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_models.layers import unit_norm

# Keeps the sine's gradient finite where a descriptor coincides with its class weight.
SINE_EPSILON = 1e-7


class ArcMargin(nn.Module):
    """Class weights float [classes, embedding_size] and the logits that they give a descriptor."""

    def __init__(self, classes: int, embedding_size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.normal_(self.weight, std=embedding_size**-0.5)

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Logits of the classes, the right one's angle enlarged by the margin.

        Where angle + margin would pass π, the cosine goes on as a straight line, so that the loss stays monotonic.

        Args:
            descriptors: float [N, embedding_size], unit norm.
            labels: int64 [N].
            margin: in radians.

        Returns:
            float [N, classes], from -scale to scale but for the straight line.
        """
        cosine = descriptors @ unit_norm(self.weight).T
        right = cosine.gather(1, labels[:, None])
        sine = (1 - right.square()).clamp(min=SINE_EPSILON).sqrt()
        moved = right * math.cos(margin) - sine * math.sin(margin)
        moved = torch.where(right > math.cos(math.pi - margin), moved, right - math.sin(margin) * margin)
        chosen = functional.one_hot(labels, cosine.shape[1]).to(cosine.dtype)
        return self.scale * (cosine + chosen * (moved - right))


def arc_margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy: float [N, classes] and int64 [N] → float scalar.

    Written out, because Paddle's own on CPUs takes no difference of logits for more than 64, and at scale 30 an image
    opposite to its class has more.
    """
    return (logits.logsumexp(dim=1) - logits.gather(1, labels[:, None])[:, 0]).mean()
