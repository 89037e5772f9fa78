"""Small ResNets of TensorFlow 2.2's Keras with random weights: their files, and their own features of given pixels.

Example:
    .venv-tf22/bin/python parity_tests/keras2_worker.py v2 pixels.npy folder

For Python 3.8, so nothing of ours is imported, and nothing of ours names a tensor. Two blocks a layer, 8 to 32 planes; into the folder
go `model.h5`, `weights.h5`, `tuned.h5`, where the network stands inside another one, and `features.npy`, float32 [N, 128].
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.keras.applications import resnet

PLANES = (8, 16, 24, 32)
STRIDES = {"v1": (1, 2, 2, 2), "v2": (2, 2, 2, 1)}
"""Of the first block of each layer in v1, and of the last one in v2."""


def network(kind):
    """The functional model, "v1" or "v2", without weights of its own."""
    stack = resnet.stack1 if kind == "v1" else resnet.stack2

    def layers(features):
        for index in range(4):
            features = stack(features, PLANES[index], 2, stride1=STRIDES[kind][index], name=f"conv{index + 2}")
        return features

    return resnet.ResNet(layers, kind == "v2", True, "small", False, None, input_shape=(None, None, 3), pooling="avg")


def randomise(model):
    """Gives every layer weights and statistics of which none is 0 or 1."""
    random = np.random.RandomState(4)
    for layer in model.layers:
        shapes = [value.shape for value in layer.get_weights()]
        if len(shapes) == 4:
            # Scale, shift, mean and variance; the first and the last are positive.
            values = [random.uniform(-0.5, 0.5, shape) + (index in (0, 3)) for index, shape in enumerate(shapes)]
            layer.set_weights(values)
        else:
            layer.set_weights([random.normal(0, np.prod(shape[:-1] or [4]) ** -0.5, shape) for shape in shapes])


def main():
    """Command line."""
    kind, pixels, folder = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    model = network(kind)
    randomise(model)
    application = tf.keras.applications.resnet if kind == "v1" else tf.keras.applications.resnet_v2
    features = model.predict(application.preprocess_input(pixels.copy()))
    np.save(folder / "features.npy", features)
    model.save(str(folder / "model.h5"))
    model.save_weights(str(folder / "weights.h5"))
    tuned = tf.keras.Sequential([tf.keras.layers.Input((64, 64, 3)), model, tf.keras.layers.Dense(3, name="classes")])
    tuned.compile("sgd", "mse")
    tuned.save(str(folder / "tuned.h5"))


if __name__ == "__main__":
    main()
