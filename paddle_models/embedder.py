"""The whole network: image batch → backbone → pooling → neck → unit-norm descriptor."""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_models.layers import UnitNorm, global_pool, neck
from paddle_models.preactivation import PreactivationBottleneck
from paddle_models.res2net import Res2NetBottleneck
from paddle_models.resnest import SplitAttentionBottleneck
from paddle_models.resnet import LAYERS, BasicBlock, Bottleneck, ResNet
from zoo.specs import ModelSpec

BLOCKS = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preactivation": PreactivationBottleneck,
    "split_attention": SplitAttentionBottleneck,
    "res2net": Res2NetBottleneck,
}


class Embedder(nn.Layer):
    """A whole network of the zoo.

    Input: float [N, 3, H, W], normalised (`zoo.preprocess`), H and W of at least 32. Output: descriptors float [N, D],
    D = `spec.embedding_size`, of unit norm unless `spec.head.l2` is off.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        head = spec.head
        self.backbone = ResNet(spec.backbone, BLOCKS[spec.backbone.block])
        self.pool = global_pool(head)
        self.neck = neck(spec.features, head)
        self.l2 = UnitNorm() if head.l2 else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.l2(self.neck(self.pool(self.backbone(images))))

    def features(self, images: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
        """The backbone's feature maps by layer, as timm's `features_only` returns them (`ResNet.features`).

        Args:
            images: float [N, 3, H, W], normalised.
            layers: some of layer1, layer2, layer3, layer4; layers after the last of them are not computed.

        Returns:
            {layer: float [N, C, H / stride, W / stride]} with the strides of `ResNet.features`.

        Raises:
            SpecError: there is no such layer.
        """
        return self.backbone.features(images, layers)


def intermediates(model: nn.Layer, images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of all named modules for one batch, in the order of the forward pass.

    Args:
        model: it is switched to evaluation mode.
        images: float [N, 3, H, W], normalised.

    Returns:
        {module name: float array}; the last one, `descriptor`, is the output of the whole model.
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
