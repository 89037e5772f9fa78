"""The whole network: image batch → backbone → pooling → neck → unit-norm descriptor."""

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_models.layers import Neck, global_pool, unit_norm
from paddle_models.res2net import Res2NetBottleneck
from paddle_models.resnest import SplitAttentionBottleneck
from paddle_models.resnet import BasicBlock, Bottleneck, ResNet
from zoo.specs import ModelSpec

BLOCKS = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "split_attention": SplitAttentionBottleneck,
    "res2net": Res2NetBottleneck,
}


class Embedder(nn.Layer):
    """Input float [N, 3, H, W], normalised (`zoo.preprocess`); output: descriptors float [N, D], of unit norm but where
    the spec says otherwise.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        head = spec.head
        self.backbone = ResNet(spec.backbone, BLOCKS[spec.backbone.block])
        self.pool = global_pool(head)
        self.neck = nn.Identity() if head.neck == "none" else Neck(spec.features, head)
        self.l2 = head.l2

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.neck(self.pool(self.backbone(images)))
        return unit_norm(embedding) if self.l2 else embedding


def intermediates(model: nn.Layer, images: np.ndarray) -> dict[str, np.ndarray]:
    """The output of every named module for one batch, in the order of the forward pass; `descriptor` is the last.

    Args:
        model: put into evaluation mode.
        images: float [N, 3, H, W], normalised.
    """
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str, module: nn.Layer) -> nn.layer.layers.HookRemoveHelper:
        return module.register_forward_post_hook(lambda _, __, output: outputs.update({name: output.numpy().copy()}))

    model.eval()
    hooks = [keep(name or "descriptor", module) for name, module in model.named_sublayers(include_self=True)]
    try:
        with paddle.no_grad():
            model(paddle.to_tensor(images))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
