"""Loads and runs SavedModels in the TensorFlow of the Python that runs it; Python 3.8 syntax.

    python export/checker/verdict_worker.py OUT.txt contest|any SECONDS FOLDER...

Prints "loaded", TensorFlow's version and Python's when TensorFlow is. Writes one line per model immediately, so that a model that ends
the process does not lose earlier lines: "ran", or TensorFlow's error. "contest" calls the contest's signature as its scorer does and
also checks its outputs; "any" calls every signature by name with values of matching shapes, and with an encoded image for each string.
SIGALRM ends the process if a model has not run within SECONDS.
"""

import os
import signal
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

tf.get_logger().setLevel("ERROR")
SIZES = ((33, 40), (64, 48))
SIDE = 64


def _inputs(function):
    """Names and tensors; captured weights follow the actual inputs."""
    return list(zip(function._arg_keywords, function.inputs))


def contest(loaded):
    if "serving_default" not in loaded.signatures:
        return "no serving_default"
    function = loaded.signatures["serving_default"]
    inputs = [(name, tensor.shape.as_list()) for name, tensor in _inputs(function)]
    if inputs != [("input_image", [None, None, 3])]:
        return f"inputs {inputs}"
    for height, width in SIZES:
        image = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
        found = function(tf.convert_to_tensor(image))
        if "global_descriptor" not in found:
            return "no global_descriptor"
        vector = found["global_descriptor"].numpy()
        if vector.ndim != 1 or vector.dtype != np.float32 or not np.isfinite(vector).all():
            return f"descriptor {vector.dtype} {vector.shape}: {vector.ravel()[:3]}"
    return "ran"


def any_signature(loaded):
    for function in loaded.signatures.values():
        values = {name: _value(tensor) for name, tensor in _inputs(function)}
        found = function(**values).values()
        if not all(value.dtype == tf.string or np.isfinite(value.numpy()).all() for value in found):
            return "not finite"
    return "ran"


def _value(tensor):
    """Something that a signature's input takes."""
    shape = [size or (1 if not axis else SIDE) for axis, size in enumerate(tensor.shape.as_list())]
    if tensor.dtype == tf.string:
        return tf.fill(shape, tf.io.encode_jpeg(tf.zeros([SIDE, SIDE, 3], tf.uint8)))
    return tf.cast(np.random.RandomState(0).uniform(size=shape), tensor.dtype)


def main():
    out, way, seconds, *folders = sys.argv[1:]
    print("loaded", tf.__version__, "{}.{}".format(*sys.version_info), flush=True)
    for folder in folders:
        signal.alarm(int(seconds))  # by default it ends even a process whose TensorFlow never returns to Python
        try:
            said = {"contest": contest, "any": any_signature}[way](tf.saved_model.load(folder))
        except Exception as error:  # TensorFlow raises many kinds of exception
            said = f"{type(error).__name__}: {str(error)[:2000]}"
        with open(out, "a", encoding="utf-8") as file:
            file.write(" ".join(said.split()) + "\n")


if __name__ == "__main__":
    main()
