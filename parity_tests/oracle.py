"""Every layer and the losses in plain numpy float64, written from the papers and independent of both frameworks."""

from collections.abc import Callable

import numpy as np

from zoo.specs import LossSpec

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
    """With running statistics; channels are the second axis."""
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


def average_pool(
    x: np.ndarray, kernel: int, stride: int, pad: int, count_padding: bool, ceil: bool = False
) -> np.ndarray:
    """By loops. If padding is not counted, an edge is averaged over existing pixels only; with `ceil` an odd edge is kept."""
    height, width = x.shape[2:]
    rows, columns = ((size + 2 * pad - kernel + (stride - 1 if ceil else 0)) // stride + 1 for size in (height, width))
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride - pad, j * stride - pad
            window = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            area = kernel * kernel if count_padding else window.shape[2] * window.shape[3]
            out[:, :, i, j] = window.sum((2, 3)) / area
    return out


def maximum_pool(x: np.ndarray, kernel: int, stride: int, pad: int, ceil: bool) -> np.ndarray:
    """By loops, over the pixels that exist; with `ceil` the last window may be cut by the edge."""
    height, width = x.shape[2:]
    rows, columns = ((size + 2 * pad - kernel + (stride - 1 if ceil else 0)) // stride + 1 for size in (height, width))
    out = np.zeros((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride - pad, j * stride - pad
        out[:, :, i, j] = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel].max((2, 3))
    return out


def unit_norm(x: np.ndarray) -> np.ndarray:
    """Rows of [N, D] divided by their norm."""
    return np.stack([row / np.linalg.norm(row) for row in x])


def cosines(x: np.ndarray, class_weights: np.ndarray, sub_centers: int) -> np.ndarray:
    """[N, classes]: cosines to the nearest of each class's centres, vector by vector."""
    out = np.zeros((len(x), len(class_weights) // sub_centers))
    for n, vector in enumerate(x):
        each = [vector @ w / (np.linalg.norm(vector) * np.linalg.norm(w)) for w in class_weights]
        out[n] = [max(each[c * sub_centers : (c + 1) * sub_centers]) for c in range(out.shape[1])]
    return out


def moved_loss_state(
    spec: LossSpec, state: dict[str, np.ndarray], x: np.ndarray, class_weights: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """A loss's state after one more batch."""
    cosine = cosines(x, class_weights, spec.sub_centers)
    right = cosine[np.arange(len(labels)), labels]
    if spec.kind == "curricular_face":  # §3.2: an average with momentum 0.99
        return {"mean_cosine": 0.99 * state["mean_cosine"] + 0.01 * right.mean(keepdims=True)}
    if spec.kind == "ada_cos":  # eq. 14 and 15; of two medians, the lower
        scale = state["adaptive_scale"]
        others = np.mean(
            [sum(np.exp(scale * c) for j, c in enumerate(row) if j != y) for row, y in zip(cosine, labels, strict=True)]
        )
        median = np.sort(np.arccos(right))[(len(right) - 1) // 2]
        return {"adaptive_scale": np.log(others).reshape(1) / np.cos(min(np.pi / 4, median))}
    return state


def margin_loss(
    spec: LossSpec,
    state: dict[str, np.ndarray],
    x: np.ndarray,
    class_weights: np.ndarray,
    labels: np.ndarray,
    scale: float,
    margin: float,
) -> float:
    """The mean over the batch, computed with angles; linear if angle plus margin exceeds π."""
    losses = []
    for row, label in zip(cosines(x, class_weights, spec.sub_centers), labels, strict=True):
        logits, own = row.copy(), margin
        if spec.kind == "dynamic_arc_face":  # arXiv 2010.05350, §2.2
            own = margin * state["class_margin"][label]
        angle = np.arccos(row[label])
        moved = np.cos(angle + own) if angle + own < np.pi else row[label] - own * np.sin(own)
        if spec.kind == "curricular_face":  # eq. 7 and 8: the logit of a negative inside the margin is enlarged
            hard = row > np.cos(angle + own)
            logits = np.where(hard, row * (state["mean_cosine"] + row), row)
        if spec.kind == "cos_face":
            moved = row[label] - own
        if spec.kind == "ada_cos":
            moved, factor = row[label], state["adaptive_scale"][0]
        else:
            factor = scale
        logits[label] = moved
        losses.append(np.log(np.sum(np.exp(factor * logits))) - factor * logits[label])
    return float(np.mean(losses))


def differences(value: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient by central differences, entry by entry."""
    out = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        out[index] = (value(up) - value(down)) / (2 * step)
    return out


def squeeze_excitation(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """SE, §3: channels weighted by a function of the averaged map."""
    pooled = x.mean((2, 3), keepdims=True)
    hidden = relu(convolution(pooled, weights["fc1.weight"], weights["fc1.bias"], 1, 1))
    return x / (1 + np.exp(-convolution(hidden, weights["fc2.weight"], weights["fc2.bias"], 1, 1)))


def instance_batch_norm(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """IBN-a, figure 3: half of the channels normalised per image, half with running statistics."""
    out, half = x.copy(), x.shape[1] // 2
    for n in range(len(x)):
        for c in range(half):
            deviation = np.sqrt(x[n, c].var() + BN_EPSILON)
            out[n, c] = (x[n, c] - x[n, c].mean()) / deviation * weights["IN.weight"][c] + weights["IN.bias"][c]
    out[:, half:] = batch_norm(x[:, half:], weights, "BN")
    return out


def hierarchy(x: np.ndarray, weights: dict[str, np.ndarray], scale: int, groups: int) -> np.ndarray:
    """Res2Net, eq. 1: each split but the last is added to the previous output and convolved; all are concatenated."""
    *splits, last = np.split(x, scale, axis=1)
    out: list[np.ndarray] = []
    for index, split in enumerate(splits):
        inputs = split + out[-1] if out else split
        convolved = convolution(inputs, weights[f"convs.{index}.weight"], None, 1, groups)
        out.append(relu(batch_norm(convolved, weights, f"bns.{index}")))
    return np.concatenate([*out, last], axis=1)
