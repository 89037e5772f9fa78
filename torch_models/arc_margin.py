"""ArcMargin, the additive angular margin loss (ArcFace, arXiv 1801.07698, eq. 3)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_models.distributed import ALONE, Group, MarginLogits
from torch_models.layers import unit_norm
from zoo.constants import NORM_EPSILON, SINE_EPSILON


class ArcMargin(nn.Module):
    """Class weights float [classes · sub_centers, embedding_size], which turn descriptors into logits.

    Args:
        classes: the classes of this process; alone, all of them.
        embedding_size: length of the descriptors.
        scale: factor that turns cosines into logits.
        sub_centers: class weights per class, of which the nearest counts (Sub-center ArcFace, ECCV 2020, eq. 4).
        dynamic: the margin is multiplied by `class_margin` float [classes] (arXiv 2010.05350, §2.2).
        group: the processes that the classes are divided among.
    """

    def __init__(
        self,
        classes: range,
        embedding_size: int,
        scale: float,
        sub_centers: int = 1,
        dynamic: bool = False,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        self.classes, self.scale, self.sub_centers, self.group = classes, scale, sub_centers, group
        self.dynamic = dynamic
        self.weight = nn.Parameter(torch.empty(len(classes) * sub_centers, embedding_size))
        nn.init.normal_(self.weight, std=embedding_size**-0.5)
        if dynamic:
            self.register_buffer("class_margin", torch.ones(len(classes)))

    def forward(self, descriptors: Tensor, labels: Tensor, margin: float, drawn: Tensor | None = None) -> MarginLogits:
        """Logits of this process's classes, with the margin added to the angle of the right class.

        If angle + margin exceeds π, the cosine continues as a straight line, so that the loss stays monotonic.

        Args:
            descriptors: float [N, embedding_size], of all processes.
            labels: int64 [N], class indices.
            margin: in radians.
            drawn: int64, ascending positions in `classes` to compare with, those of the batch included; all by default.
        """
        logits, columns = self.logits(descriptors, labels, drawn)
        right = picked(logits, columns)
        margins = torch.full_like(right, margin)
        if self.dynamic:
            margins = margins * self.class_margin[self.positions(labels).clamp(min=0)]
        return with_target(logits, columns, right, lambda value: self.scale * add_angle(value / self.scale, margins))

    def logits(self, descriptors: Tensor, labels: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scaled cosines float [N, classes] between each descriptor and the nearest centre of each class, and the column
        int64 [N] of the right one, -1 if another process has it.
        """
        weight, columns = self.weight, self.positions(labels)
        if drawn is not None:
            places = (drawn[:, None] * self.sub_centers + torch.arange(self.sub_centers, device=drawn.device)).flatten()
            weight = weight[places]
            columns = torch.where(columns >= 0, torch.searchsorted(drawn, columns.clamp(min=0)), -1)
        # The scale is applied to the descriptors, which are smaller than the logits.
        values = (self.scale * unit_norm(descriptors, NORM_EPSILON)) @ unit_norm(weight, NORM_EPSILON).T
        if self.sub_centers > 1:
            values = values.reshape(len(descriptors), -1, self.sub_centers).amax(dim=2)
        return values, columns

    def positions(self, labels: Tensor) -> Tensor:
        """Positions int64 [N] of classes in this process's, -1 for those of other processes."""
        inside = (labels >= self.classes.start) & (labels < self.classes.stop)
        return torch.where(inside, labels - self.classes.start, -1)


def picked(logits: Tensor, columns: Tensor) -> Tensor:
    """The logit of each row's column, float [N], without a gradient; 0 where the column is -1."""
    found = logits.detach().gather(1, columns.clamp(min=0)[:, None])[:, 0]
    return torch.where(columns >= 0, found, 0.0)


def with_target(logits: Tensor, columns: Tensor, right: Tensor, margin: Callable[[Tensor], Tensor]) -> MarginLogits:
    """Logits whose right ones [N] are replaced by a function of them, element by element."""
    with torch.enable_grad():
        leaf = right.detach().requires_grad_()
        target = margin(leaf)
        [slope] = torch.autograd.grad(target.sum(), leaf)
    return MarginLogits(logits, columns, target.detach(), slope)


def add_angle(right: Tensor, margins: Tensor) -> Tensor:
    """cos(angle + margin) of cosines [N]; continued as a straight line if the sum exceeds π."""
    sine = (1 - right * right).clamp(min=SINE_EPSILON).sqrt()
    moved = right * margins.cos() - sine * margins.sin()
    return torch.where(right > (math.pi - margins).cos(), moved, right - margins.sin() * margins)
