"""Writes SavedModels with variables in the same TensorFlow that will run them; Python 3.8 syntax.

python tests/export/write_in_tf22.py FOLDER
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


def main(folder):
    filters = np.random.RandomState(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    wrong = filters.copy()
    wrong[0, 1, 2, 3] = np.nan
    for name, values in (("good", filters), ("not_finite", wrong)):
        served = Served(values)
        tf.saved_model.save(served, os.path.join(folder, name), {"serving_default": served.serve})


if __name__ == "__main__":
    main(sys.argv[1])
