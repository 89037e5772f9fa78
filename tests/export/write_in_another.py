"""Writes SavedModels in the TensorFlow of the Python that runs it; Python 3.8 syntax.

    python tests/export/write_in_another.py FOLDER

"good" and "not_finite" have the contest's signature and variables; "keras" and "operators" are what a user of that version would
save. Prints the version.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf


class Served(tf.Module):
    def __init__(self, filters):
        super().__init__()
        self.filters = tf.Variable(filters, name="stem.conv.weight")

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8, "input_image")])
    def serve(self, image):
        x = tf.nn.conv2d(tf.cast(image, tf.float32)[None] / 255, self.filters, 1, "SAME")
        return {"global_descriptor": tf.reduce_mean(x, [0, 1, 2])}


def keras():
    """Layers of Keras as people stack them."""
    layers = tf.keras.layers
    images = x = tf.keras.Input([64, 64, 3])
    for width in (8, 16):
        x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same")(layers.ZeroPadding2D(1)(x))
        x = layers.MaxPool2D(3, 2, padding="same")(x)
    x = layers.Activation("swish")(layers.SeparableConv2D(16, 3)(layers.UpSampling2D()(x)))
    x = layers.LayerNormalization()(layers.Dense(8)(layers.GlobalAveragePooling2D()(x)))
    return tf.keras.Model(images, layers.Softmax()(layers.Dropout(0.5)(x)))


class Operators(tf.Module):
    """Operators whose form has changed over the versions."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "images")])
    def serve(self, images):
        x = tf.image.resize(images, [16, 16], antialias=True)
        x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2, 2, "VALID")
        x = tf.nn.leaky_relu(x) + tf.nn.gelu(x) if hasattr(tf.nn, "gelu") else tf.nn.leaky_relu(x)
        x = tf.nn.batch_normalization(x, *tf.nn.moments(x, [1, 2], keepdims=True), None, None, 1e-3)
        scores = tf.einsum("nhwc,nhwd->ncd", x, x)
        best, places = tf.math.top_k(tf.reshape(scores, [-1, 9]), 3)
        taken = tf.gather(tf.cumsum(scores, axis=2), [0, 2], axis=1)
        return {"best": best, "places": places, "taken": tf.where(taken > 0, taken, tf.roll(taken, 1, 2))}


def main(folder):
    filters = np.random.RandomState(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    wrong = filters.copy()
    wrong[0, 1, 2, 3] = np.nan
    for name, values in (("good", filters), ("not_finite", wrong)):
        served = Served(values)
        tf.saved_model.save(served, os.path.join(folder, name), {"serving_default": served.serve})
    operators, model = Operators(), keras()
    tf.saved_model.save(operators, os.path.join(folder, "operators"), {"serving_default": operators.serve})
    # Keras 3, from TensorFlow 2.16 on, has another name for what Keras 2 calls saving.
    old = [int(part) for part in tf.__version__.split(".")[:2]] < [2, 16]
    write = model.save if old else model.export
    write(os.path.join(folder, "keras"))
    print(tf.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
