"""Networks of layers and of control flow for `checked_models.py`; each takes images float32 [1, H, W, 3]."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

RANDOM = np.random.default_rng(3)
MODELS: dict[str, Callable] = {}
"""{name: function from images float32 [1, H, W, 3] to a tensor whose values are averaged into the descriptor}."""


def model(function: Callable) -> Callable:
    MODELS[function.__name__] = function
    return function


def weights(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.constant(RANDOM.normal(size=shape) / 5, dtype)


def kernel(inputs: int, outputs: int, size: int = 3) -> tf.Tensor:
    return weights(size, size, inputs, outputs)


def nchw(images: tf.Tensor) -> tf.Tensor:
    return tf.transpose(images, [0, 3, 1, 2])


def conv(x: tf.Tensor, outputs: int, name: str | None = None, inputs: int | None = None, **options) -> tf.Tensor:
    return tf.nn.conv2d(
        x, kernel(inputs or x.shape[-1], outputs), **{"strides": 1, "padding": "SAME", **options}, name=name
    )


@model
def conv_pool(images):
    x = tf.nn.relu(tf.nn.bias_add(conv(images, 8), weights(8)))
    return tf.nn.avg_pool2d(tf.nn.max_pool2d(x, 3, 2, "SAME"), 2, 2, "VALID")


@model
def conv_explicit_padding(images):
    return conv(images, 8, strides=2, padding=[[0, 0], [1, 1], [2, 1], [0, 0]], dilations=2 * [1])


@model
def conv_dilated(images):
    return conv(images, 8, dilations=2)


@model
def resize_antialias(images):
    return tf.image.resize(images, [24, 24], antialias=True)


@model
def resize_all(images):
    return tf.add_n([tf.image.resize(images, [9, 9], way) for way in ("nearest", "bicubic", "lanczos3", "area")])


@model
def two_branches(images):
    return tf.cond(tf.shape(images)[1] > 30, lambda: conv(images, 4), lambda: images[..., :1] * weights(4))


@model
def branch_with_grouped_conv(images):
    x = tf.image.resize(conv(images, 8), [8, 8])
    return tf.cond(tf.shape(images)[1] > 0, lambda: conv(x, 4, inputs=4), lambda: x[..., :4])


@model
def loop(images):
    mixing = kernel(3, 3)
    return tf.while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.conv2d(x, mixing, 1, "SAME")), [0, images], maximum_iterations=5
    )[1]


@model
def growing_loop(images):
    def step(i, x):
        return i + 1, tf.concat([x, tf.nn.relu(x[:, :5])], 1)

    row = tf.image.resize(images, [4, 4])
    shapes = [tf.TensorShape([]), tf.TensorShape([1, None, 4, 3])]
    return tf.while_loop(lambda i, x: i < 3, step, [0, row], shape_invariants=shapes)[1]


@model
def split_and_concat(images):
    first, second = tf.split(conv(images, 8), [3, 5], -1)
    return (
        tf.concat([conv(first, 4), conv(second, 4)], -1)
        * tf.sigmoid(tf.reduce_mean(first, [1, 2], keepdims=True))[..., :1]
    )


@model
def depthwise_conv(images):
    return tf.nn.depthwise_conv2d(images, kernel(3, 2), [1, 1, 1, 1], "SAME")


@model
def depthwise_conv_uneven_strides(images):
    return tf.raw_ops.DepthwiseConv2dNative(input=images, filter=kernel(3, 2), strides=[1, 1, 2, 1], padding="SAME")


@model
def depthwise_conv_explicit_padding(images):
    pads = [0, 0, 1, 1, 1, 1, 0, 0]
    return tf.raw_ops.DepthwiseConv2dNative(
        input=images, filter=kernel(3, 2), strides=[1, 1, 1, 1], padding="EXPLICIT", explicit_paddings=pads
    )


@model
def transposed_conv(images):
    size = tf.shape(images)
    return tf.nn.conv2d_transpose(images, kernel(4, 3), [1, 2 * size[1], 2 * size[2], 4], 2)


@model
def transposed_conv_dilated(images):
    size = tf.shape(images)
    return tf.nn.conv2d_transpose(images, kernel(4, 3), [1, size[1], size[2], 4], 1, dilations=2)


@model
def batch_norm(images):
    return tf.compat.v1.nn.fused_batch_norm(
        conv(images, 4), weights(4), weights(4), weights(4), abs(weights(4)), is_training=False
    )[0]


@model
def matrix_products(images):
    x = tf.einsum("nhwc,cd->nhwd", images, weights(3, 4))
    return tf.nn.gelu(tf.matmul(tf.reshape(x, [1, -1, 4]), weights(1, 4, 5)))


@model
def largest(images):
    return tf.math.top_k(tf.reshape(images, [-1]), 4).values + tf.cast(tf.argmax(images, -1)[0, 0, 0], tf.float32)


@model
def max_with_minus_infinity(images):
    return tf.nn.max_pool2d(tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-np.inf), 3, 1, "VALID")


@model
def double_conv(images):
    return tf.cast(
        tf.nn.conv2d(tf.cast(images, tf.float64), weights(3, 3, 3, 4, dtype=tf.float64), 1, "SAME"), tf.float32
    )


@model
def half_conv(images):
    return tf.cast(
        tf.nn.conv2d(tf.cast(images, tf.float16), weights(3, 3, 3, 4, dtype=tf.float16), 1, "SAME"), tf.float32
    )


@model
def bfloat16_conv(images):
    return tf.cast(
        tf.nn.conv2d(tf.cast(images, tf.bfloat16), weights(3, 3, 3, 4, dtype=tf.bfloat16), 1, "SAME"), tf.float32
    )


@model
def bfloat16_add(images):
    return tf.cast(tf.cast(images, tf.bfloat16) + weights(3, dtype=tf.bfloat16), tf.float32)


@model
def float8(images):
    return tf.cast(tf.cast(images, tf.dtypes.experimental.float8_e5m2), tf.float32)


@model
def grouped_conv(images):
    return conv(conv(images, 8), 8, inputs=4, name="layer1.0.conv2")


@model
def grouped_conv_in_a_function_of_any_shape(images):
    filters = kernel(4, 8)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def block(x):
        return tf.nn.conv2d(x, filters, 1, "SAME", name="inner")

    return block(conv(images, 8))


@model
def conv_in_a_function_of_any_shape(images):
    filters = kernel(8, 8)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def block(x):
        return tf.nn.conv2d(x, filters, 1, "SAME", name="inner")

    return block(conv(images, 8))


@model
def grouped_conv_behind_everything(images):
    x = tf.nn.max_pool2d(
        tf.pad(tf.nn.relu(conv(images, 8) + weights(8)), [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID"
    )
    x = tf.concat(tf.split(x, 2, -1)[::-1], -1) * 2 - tf.reduce_mean(x, [1, 2], keepdims=True)
    return conv(tf.reshape(x, [1, -1, 4, 8]), 8, inputs=2)


@model
def nchw_conv(images):
    return tf.nn.conv2d(nchw(images), kernel(3, 4), 1, "SAME", data_format="NCHW", name="stem.conv")


@model
def nchw_max_pool(images):
    return tf.nn.max_pool2d(nchw(images), 2, 2, "VALID", data_format="NCHW")


@model
def nchw_bias_and_batch_norm(images):
    x = tf.nn.bias_add(nchw(images), weights(3), data_format="NCHW")
    scale, offset, mean, variance = (abs(weights(3)) for _ in range(4))
    options = {"is_training": False, "data_format": "NCHW"}
    return tf.raw_ops.FusedBatchNormV3(x=x, scale=scale, offset=offset, mean=mean, variance=variance, **options)[0]


@model
def nchw_depth_to_space(images):
    x = tf.transpose(conv(images, 8), [0, 3, 1, 2])
    return tf.nn.depth_to_space(x, 2, data_format="NCHW")


@model
def grouped_conv3d(images):
    x = tf.image.resize(conv(images, 8), [8, 8])[:, None]
    return tf.raw_ops.Conv3D(input=x, filter=weights(1, 3, 3, 4, 4), strides=[1] * 5, padding="SAME")


@model
def conv3d(images):
    return tf.nn.conv3d(images[:, None], weights(1, 3, 3, 3, 4), [1] * 5, "SAME")


@model
def bicubic_in_double(images):
    return tf.cast(tf.image.resize(tf.cast(images, tf.float64), [8, 8], "bicubic"), tf.float32)


@model
def nested_functions(images):
    @tf.function
    def inner(x, grow):
        return tf.cond(grow, lambda: conv(x, 4, inputs=3, name="layer2.0.conv1"), lambda: x[..., :1] * weights(4))

    return tf.function(lambda x: inner(x, tf.reduce_mean(x) > 0))(images) + inner(images, tf.constant(False))


@model
def nchw_conv_in_a_loop(images):
    mixing = kernel(3, 3)

    def step(i, x):
        return i + 1, tf.nn.conv2d(x, mixing, 1, "SAME", data_format="NCHW", name="inside")

    return tf.while_loop(lambda i, x: i < 2, step, [0, nchw(images)], parallel_iterations=1)[1]


@model
def sorted_and_gathered(images):
    flat = tf.reshape(images, [-1, 3])
    return tf.gather(tf.sort(flat, 0), tf.argsort(flat[:, 0])) + tf.cumsum(flat, 0) + tf.one_hot(0, 3)


@model
def decoded_again(images):
    return tf.cast(tf.io.decode_jpeg(tf.io.encode_jpeg(tf.cast(images[0] * 255, tf.uint8))), tf.float32)


@model
def normalised(images):
    x = tf.nn.local_response_normalization(conv(images, 8)) + tf.nn.softmax(conv(images, 8))
    return tf.math.l2_normalize(x, -1) + tf.nn.leaky_relu(tf.clip_by_value(x, 0, 6)) ** 3.0


@model
def gradient_of_its_own(images):
    return tf.nn.swish(images)


@model
def extracted_patches(images):
    return tf.image.extract_patches(images, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
