"""Writes small SavedModels for the tests: one that the contest accepts, and one per reason for being refused.

    python tests/tiny_saved_models.py FOLDER

Each is FOLDER/<name>. `good` has the two signatures of an exported model, and `another` has other weights. Weights are constants of the graph, as in an
exported ensemble. Features: the means of the channels, of the top row, and of the left column's red and green;
so a swapped axis or a swapped channel changes the descriptor.
"""

import os
import sys
from pathlib import Path

import numpy as np

DESCRIPTOR_SIZE = 8
MIX = np.random.default_rng(7).normal(size=(DESCRIPTOR_SIZE, DESCRIPTOR_SIZE)).astype(np.float32)


def descriptor(image: np.ndarray) -> np.ndarray:
    """What `good` returns, in numpy: uint8 or float [H, W, 3] to float64 [8]."""
    image = image.astype(np.float64) / 255
    features = [image.mean((0, 1)), image[0].mean(0), image[:, 0, :2].mean(0)]
    return np.tanh(np.concatenate(features) @ MIX.astype(np.float64))


def main(folder: Path) -> None:
    """Writes every SavedModel; TensorFlow is imported here, so that tests can import `descriptor` without it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    def embed(images: tf.Tensor, mix: np.ndarray = MIX) -> tf.Tensor:
        images = tf.cast(images, tf.float32) / 255
        top, left = tf.reduce_mean(images[:, 0], [1]), tf.reduce_mean(images[:, :, 0, :2], [1])
        features = tf.concat([tf.reduce_mean(images, [1, 2]), top, left], 1)
        return tf.tanh(tf.matmul(features, tf.constant(mix)))

    def spec(name: str, shape: list[int | None] = [None, None, 3], dtype: tf.DType = tf.uint8) -> tf.TensorSpec:  # noqa: B006
        return tf.TensorSpec(shape, dtype, name)

    def save(name: str, **signatures: tuple) -> None:
        module = tf.Module()
        for signature, (function, *specs) in signatures.items():
            setattr(module, signature, tf.function(function, input_signature=specs))
        functions = {signature: getattr(module, signature) for signature in signatures}
        tf.saved_model.save(module, str(folder / name), functions)

    def contest(input_image):
        return {"global_descriptor": embed(input_image[tf.newaxis])[0]}

    def contest_of_two(input_image, weight):
        return {"global_descriptor": embed(input_image[tf.newaxis])[0] * weight}

    def contest_in_double(input_image):
        return {"global_descriptor": tf.cast(embed(input_image[tf.newaxis])[0], tf.float64)}

    def contest_misnamed(input_image):
        return {"descriptor": embed(input_image[tf.newaxis])[0]}

    def contest_of_nan(input_image):
        return {
            "global_descriptor": embed(input_image[tf.newaxis], np.where(MIX > 1, np.nan, MIX).astype(np.float32))[0]
        }

    def contest_of_another(input_image):
        return {"global_descriptor": embed(input_image[tf.newaxis], -MIX)[0]}

    def batches(images_16, images_24):
        return {"global_descriptor": embed(images_16) + embed(images_24)}

    def contest_of_batches(input_image):
        return {"global_descriptor": embed(input_image)}

    image = spec("input_image")
    sizes = [spec(f"images_{size}", [None, size, size, 3], tf.float32) for size in (16, 24)]
    save("good", serving_default=(contest, image), embed_resized=(batches, *sizes))
    save("no_contest_signature", other=(contest, image))
    save("two_inputs", serving_default=(contest_of_two, image, spec("weight", [], tf.float32)))
    save("float_input", serving_default=(contest, spec("input_image", dtype=tf.float32)))
    save("batched", serving_default=(contest_of_batches, spec("input_image", [None, None, None, 3])))
    save("double_output", serving_default=(contest_in_double, image))
    save("misnamed_output", serving_default=(contest_misnamed, image))
    save("nan_weights", serving_default=(contest_of_nan, image))
    save("another", serving_default=(contest_of_another, image))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
