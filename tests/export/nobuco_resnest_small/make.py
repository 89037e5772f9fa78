"""Makes the SavedModel beside this file: a small split-attention network with random weights, converted by nobuco.

Run it in a separate environment, because nobuco needs an older TensorFlow. The folder must be new:

    pip install tensorflow-cpu==2.15.1 nobuco==0.17.0 "numpy<2"
    python tests/export/nobuco_resnest_small/make.py tests/export/nobuco_resnest_small/saved_model
"""

import sys

import nobuco
import tensorflow as tf
import torch
from nobuco import ChannelOrder
from torch import nn
from torch.nn import functional


class SplitAttention(nn.Module):
    """A grouped convolution whose two halves are weighted by a softmax over them, as in ResNeSt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.fc1, self.fc2 = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, 2 * channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        parts = functional.relu(self.norm(self.conv(x))).reshape(n, 2, c, h, w)
        gap = parts.sum(1).mean((2, 3), keepdim=True)
        attention = torch.softmax(self.fc2(functional.relu(self.fc1(gap))).reshape(n, 2, c), 1)
        return (parts * attention.reshape(n, 2, c, 1, 1)).sum(1)


def main(folder: str) -> None:
    """Writes the SavedModel."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    network = nn.Sequential(stem, SplitAttention(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16)).eval()
    keras = nobuco.pytorch_to_keras(
        network,
        args=[torch.rand(1, 3, 64, 64)],
        inputs_channel_order=ChannelOrder.TENSORFLOW,
        outputs_channel_order=ChannelOrder.TENSORFLOW,
    )
    tf.saved_model.save(keras, folder)


if __name__ == "__main__":
    main(sys.argv[1])
