"""A network of `keras.applications` with given weights: its files, and its own features of given pixels.

Example:
    python -m parity_tests.keras_worker ResNet50V2 weights.npz pixels.npy folder

Keras with TensorFlow needs a process of its own. `weights.npz` has our canonical tensors; convolutions that BatchNorm follows get a
bias as well, by which the mean of that BatchNorm is moved. Keras decides which layer computes what; `keras_module` of the code under
test only chooses which weights a layer gets, and a wrong choice would change Keras' own features. Into the folder go `model.h5`,
`model.keras`, `model.weights.h5`, `tuned.keras`, where the network stands inside another one, and `features.npy`, float32 [N, C].
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.published.keras_names import keras_module
from zoo.variants import get_spec

APPLICATIONS = {"ResNet50": keras.applications.resnet, "ResNet50V2": keras.applications.resnet_v2}


def set_weights(network: Any, weights: dict[str, np.ndarray], name: str) -> None:
    """Gives every layer its tensors; Keras' BatchNorm keeps its own epsilon."""
    spec, random = get_spec(f"keras.applications {name}").backbone, np.random.default_rng(5)
    biases: dict[str, np.ndarray] = {}
    for layer in network.layers:
        if not layer.weights:
            continue
        module = f"backbone.{keras_module(layer.name, spec)}"
        if layer.name.endswith("_conv"):
            bias = weights.get(f"{module}.bias")
            if bias is None and layer.use_bias:
                biases[layer.name] = bias = random.normal(0, 0.5, layer.filters).astype(np.float32)
            kernel = weights[f"{module}.weight"].transpose(2, 3, 1, 0)
            layer.set_weights([kernel] if bias is None else [kernel, bias])
        else:
            moved = biases.get(layer.name.removesuffix("_bn") + "_conv", 0)
            scale, shift, mean, variance = (
                weights[f"{module}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            layer.set_weights([scale, shift, mean + moved, variance])


def main() -> None:
    """Command line."""
    name, weights, pixels, folder = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
    network = getattr(APPLICATIONS[name], name)(
        weights=None, include_top=False, pooling="avg", input_shape=(None, None, 3)
    )
    set_weights(network, dict(np.load(weights)), name)
    inputs = APPLICATIONS[name].preprocess_input(np.load(pixels).copy())
    np.save(folder / "features.npy", network(inputs, training=False).numpy())
    network.save(folder / "model.h5")
    network.save(folder / "model.keras")
    network.save_weights(folder / "model.weights.h5")
    tuned = keras.Sequential([keras.layers.Input((64, 64, 3)), network, keras.layers.Dense(3, name="classes")])
    tuned.compile("sgd", "mse")
    tuned.save(folder / "tuned.keras")


if __name__ == "__main__":
    main()
