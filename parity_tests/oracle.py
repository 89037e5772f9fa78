"""Every layer and the loss in plain numpy float64, written from the papers and not from either framework."""

import numpy as np

BN_EPSILON = 1e-5


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int, groups: int) -> np.ndarray:
    """Cross-correlation, padded by half the kernel: [N, C, H, W] and [O, C / groups, K, K]."""
    kernel = weight.shape[2]
    pad = kernel // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    outputs = [
        np.einsum("nchwij,ocij->nohw", part, rows)
        for part, rows in zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True)
    ]
    out = np.concatenate(outputs, axis=1)
    return out if bias is None else out + bias[:, None, None]


def batch_norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """With running statistics, channels in the second axis."""
    shape = (-1, *[1] * (x.ndim - 2))
    scale, shift, mean, var = (
        weights[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + BN_EPSILON) * scale + shift


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def split_attention(x: np.ndarray, weights: dict[str, np.ndarray], radix: int, cardinality: int) -> np.ndarray:
    """ResNeSt, §3.1 and figure 2, by loops over cardinal groups, splits and channels."""
    u = relu(batch_norm(convolution(x, weights["conv.weight"], None, 1, radix * cardinality), weights, "bn0"))
    channels = u.shape[1] // radix
    splits = [u[:, r * channels : (r + 1) * channels] for r in range(radix)]
    pooled = sum(splits).mean((2, 3), keepdims=True)
    hidden = relu(
        batch_norm(convolution(pooled, weights["fc1.weight"], weights["fc1.bias"], 1, cardinality), weights, "bn1")
    )
    logits = convolution(hidden, weights["fc2.weight"], weights["fc2.bias"], 1, cardinality)[:, :, 0, 0]
    each, out = channels // cardinality, np.zeros_like(splits[0])
    for k in range(cardinality):
        for c in range(each):
            z = [logits[:, k * radix * each + r * each + c] for r in range(radix)]
            powers = [np.exp(value) for value in z]
            share = [1 / (1 + np.exp(-z[0]))] if radix == 1 else [power / sum(powers) for power in powers]
            for r in range(radix):
                out[:, k * each + c] += share[r][:, None, None] * splits[r][:, k * each + c]
    return out


def generalised_mean(x: np.ndarray, p: float) -> np.ndarray:
    return (np.maximum(x, 1e-6) ** p).mean((2, 3)) ** (1 / p)


def average_pool(x: np.ndarray, kernel: int, stride: int, pad: int, count_padding: bool) -> np.ndarray:
    """By loops; without counted padding an edge is averaged over the pixels that exist, odd edges included."""
    height, width = x.shape[2:]
    rows, columns = (
        (size + 2 * pad - kernel + (0 if count_padding else stride - 1)) // stride + 1 for size in (height, width)
    )
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride - pad, j * stride - pad
            window = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            area = kernel * kernel if count_padding else window.shape[2] * window.shape[3]
            out[:, :, i, j] = window.sum((2, 3)) / area
    return out


def arc_margin_loss(x: np.ndarray, class_weights: np.ndarray, labels: np.ndarray, scale: float, margin: float) -> float:
    """ArcFace's equation 3 by angles, a straight line where the angle and the margin pass π; the mean over the batch."""
    losses = []
    for vector, label in zip(x, labels, strict=True):
        cosines = [vector @ w / (np.linalg.norm(vector) * np.linalg.norm(w)) for w in class_weights]
        logits = [scale * cosine for cosine in cosines]
        angle = np.arccos(cosines[label])
        moved = np.cos(angle + margin) if angle + margin < np.pi else cosines[label] - margin * np.sin(margin)
        logits[label] = scale * moved
        losses.append(np.log(np.sum(np.exp(logits))) - logits[label])
    return float(np.mean(losses))
