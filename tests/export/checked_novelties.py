"""Networks with new operators, missing kernels and unusual values for `checked_models.py`; like `checked_layers.py`."""

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from tests.export.checked_layers import RANDOM, conv, model, weights


@model
def new_operator(images):
    return tf.raw_ops.BatchMatMulV3(x=images[0], y=weights(1, 3, 4), Tout=tf.float32, name="projection")


@model
def new_random_numbers(images):
    return images + tf.random.stateless_uniform([1, 1, 1, 3], [1, 2])


@model
def new_operator_that_nothing_needs(images):
    tf.raw_ops.BatchMatMulV3(x=images[0], y=weights(1, 3, 4), Tout=tf.float32)
    return images


@model
def new_attribute(images):
    return tf.cast(tf.raw_ops.TopKV2(input=images, k=2, index_type=tf.int64).indices, tf.float32)


@model
def new_attribute_at_its_default(images):
    return tf.raw_ops.TopKV2(input=images, k=2, index_type=tf.int32).values


@model
def of_gpus_alone(images):
    return tf.raw_ops.CudnnRNN(
        input=images[0], input_h=weights(1, 1, 2), input_c=weights(1, 1, 2), params=weights(20), is_training=False
    ).output


@model
def of_gpus_alone_that_nothing_needs(images):
    tf.raw_ops.NcclReduce(input=[images], reduction="sum")
    return images


@model
def sum_of_many(images):
    return tf.raw_ops.AccumulateNV2(inputs=[images, images * 2], shape=images.shape)


@model
def no_kernel(images):
    return tf.cast(tf.cumsum(tf.cast(images, tf.uint32), 1), tf.float32)


@model
def no_kernel_that_nothing_needs(images):
    tf.cumsum(tf.cast(images, tf.uint32), 1)
    return images


@model
def no_kernel_in_a_branch_not_taken(images):
    return tf.cond(tf.shape(images)[1] > 100000, lambda: no_kernel(images), lambda: images)


@model
def mask_of_infinities(images):
    return tf.nn.softmax(tf.reduce_mean(images, [1, 2]) + tf.constant([[0, -np.inf, 0]], tf.float32))


@model
def not_a_number_never_chosen(images):
    return tf.where(images > 2, tf.constant([np.nan, 1, 2], tf.float32), images)


@model
def bias_not_a_number(images):
    return images + tf.constant([0, np.nan, 0], name="layer3.0.bias")


@model
def weights_without_bounds(images):
    return tf.nn.conv2d(
        images, tf.constant(np.full((1, 1, 3, 2), np.inf, np.float32), name="layer1.0.conv1"), 1, "SAME"
    )


@model
def grouped_conv_that_nothing_needs(images):
    conv(conv(images, 8), 8, inputs=4)
    return images


@model
def dense_layer_of_one_size(images):
    return tf.matmul(tf.reshape(images, [1, -1]), weights(64 * 64 * 3, 4))


@model
def xla_alone(images):
    corner, inside = tf.constant([1, 1, 0]), tf.constant([0, 0, 0])
    return gen_xla_ops.xla_pad(images[0], 0.0, corner, corner, inside)


@model
def compiled(images):
    return tf.function(lambda x: x * 2 + 1, jit_compile=True)(images)


@model
def lookup(images):
    keys = tf.constant([0, 1, 2], tf.int64)
    return images + LOOKUP.lookup(keys)


@model
def of_no_size(images):
    return tf.map_fn(lambda row: tf.reduce_max(row, 0), images[0])


@model
def not_a_number(images):
    filters = RANDOM.normal(size=(3, 3, 3, 4)).astype(np.float32)
    filters[1, 1, 2, 3] = np.nan
    return tf.nn.conv2d(images, tf.constant(filters, name="layer4.2.conv3.weight"), 1, "SAME")


LOOKUP = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1, 2], tf.int64), tf.constant([0.5, 1, 2])), 0.0
)
