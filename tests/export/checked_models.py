"""Writes the small SavedModels that `export/check.py` is tested on, each with something that TensorFlow 2.2 takes or not.

    python tests/export/checked_models.py FOLDER

Each lies in FOLDER/<name> and maps input_image uint8 [H, W, 3] to global_descriptor float32 [D]. Whether TensorFlow 2.2
runs them is not said here: it is asked itself. Names that begin with "planted_" are saved models changed afterwards.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.core.protobuf import saved_model_pb2

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


def save(folder: Path, function: Callable, *specs: tf.TensorSpec, output: str = "global_descriptor", **more) -> None:
    specs = specs or (tf.TensorSpec([None, None, 3], tf.uint8, "input_image"),)
    module = tf.Module()
    for name, value in more.items():
        setattr(module, name, value)
    module.serve = tf.function(lambda *inputs: {output: function(*inputs)}, input_signature=specs)
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve})


def served(function: Callable) -> Callable:
    def descriptor(image, *_):
        value = function(tf.cast(image, tf.float32)[None] / 255)
        return tf.reduce_mean(value) * tf.ones([4])

    return descriptor


def edit(source: Path, name: str, change: Callable) -> None:
    """A copy of a SavedModel under another name, whose one graph `change` has changed."""
    folder = source.parent / name
    shutil.copytree(source, folder)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def nodes_of(graph, op: str) -> list:
    return [node for function in graph.graph_def.library.function for node in function.node_def if node.op == op]


def write_signatures(folder: Path) -> None:
    """SavedModels whose networks are good and whose signatures differ."""
    good, image = served(conv_pool), tf.TensorSpec([None, None, 3], tf.uint8, "input_image")
    save(folder / "misnamed_input", good, tf.TensorSpec([None, None, 3], tf.uint8, "image"))
    save(folder / "misnamed_output", good, output="descriptor")
    save(folder / "float_input", good, tf.TensorSpec([None, None, 3], tf.float32, "input_image"))
    save(folder / "one_size", good, tf.TensorSpec([32, 32, 3], tf.uint8, "input_image"))
    save(folder / "two_inputs", good, image, tf.TensorSpec([], tf.float32, "weight"))
    save(folder / "output_of_two_axes", lambda x: good(x)[None], image)
    save(folder / "double_output", lambda x: tf.cast(good(x), tf.float64), image)
    module = tf.Module()
    module.serve = tf.function(lambda image: {"global_descriptor": good(image)}, input_signature=[image])
    tf.saved_model.save(module, str(folder / "no_contest_signature"), {"other": module.serve})
    new = tf.function(served(new_operator), input_signature=[image])
    save(folder / "new_operator_in_another_function", good, other=new)
    pair = tf.function(lambda pair: pair.first, input_signature=[Pair.Spec(tf.TensorSpec([], tf.float32))])
    save(folder / "value_of_a_new_kind", good, other=pair)
    scale = np.ones(2, np.float32)
    scaled = tf.function(lambda x, scale=scale: x * scale)
    scaled.get_concrete_function(tf.TensorSpec([2], tf.float32))
    save(folder / "default_of_numpy", good, other=scaled)
    ragged = tf.function(lambda x: x.values, input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
    save(folder / "value_of_an_old_kind", good, other=ragged)
    save(folder / "variables_of_today", served(lambda x: x * VARIABLE), variable=VARIABLE)
    save(folder / "lookup", served(lookup), table=LOOKUP)


class Pair(tf.experimental.ExtensionType):
    """A kind of value that TensorFlow 2.2 does not know."""

    __name__ = "landmark_zoo.Pair"
    first: tf.Tensor


VARIABLE = tf.Variable([1.0, 2, 3])


def write_planted(folder: Path) -> None:
    """SavedModels with one thing that today's writer would not write."""
    good = folder / "conv_pool"

    def default_value(graph):
        nodes_of(graph, "MaxPool")[0].attr["explicit_paddings"].list.SetInParent()

    def private_attribute(graph):
        nodes_of(graph, "MaxPool")[0].attr["_of_somebody"].s = b"x"

    def lost_attribute(graph):
        del nodes_of(graph, "Conv2D")[0].attr["padding"]

    def unknown_padding(graph):
        nodes_of(graph, "MaxPool")[0].attr["padding"].s = b"ROUND"

    def lost_function(graph):
        functions = graph.graph_def.library.function
        called = nodes_of(graph, "If")[0].attr["then_branch"].func.name if nodes_of(graph, "If") else None
        called = called or nodes_of(graph, "StatelessIf")[0].attr["then_branch"].func.name
        del functions[next(i for i, f in enumerate(functions) if f.signature.name == called)]

    def newer_consumer(graph):
        graph.graph_def.versions.min_consumer = 100000

    def bad_consumer(graph):
        graph.graph_def.versions.bad_consumers.append(175)

    def unknown_object(graph):
        graph.object_graph_def.nodes[0].captured_tensor.name = "x"

    def new_in_top_graph(graph):
        node = graph.graph_def.node.add()
        node.name, node.op = "unused", "DisableCopyOnRead"

    for change in (
        *(default_value, private_attribute, lost_attribute, unknown_padding, newer_consumer, bad_consumer),
        *(unknown_object, new_in_top_graph),
    ):
        edit(good, f"planted_{change.__name__}", change)
    edit(folder / "two_branches", "planted_lost_function", lost_function)
    shutil.copytree(good, folder / "planted_no_variables")
    shutil.rmtree(folder / "planted_no_variables" / "variables")


def write_of_one(folder: Path) -> None:
    """SavedModels in the manner of TensorFlow 1, whose nodes are in the graph itself, and one of them changed."""

    def write(name: str, function: Callable) -> None:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            image = tf.compat.v1.placeholder(tf.uint8, [None, None, 3], "input_image")
            outputs = {"global_descriptor": served(function)(image)}
            tf.compat.v1.saved_model.simple_save(session, str(folder / name), {"input_image": image}, outputs)

    def newer_consumer(graph):
        graph.graph_def.versions.min_consumer = 100000

    def default_value(graph):
        next(n for n in graph.graph_def.node if n.op == "MaxPool").attr["explicit_paddings"].list.SetInParent()

    def with_variable(images):
        variable = tf.compat.v1.get_variable("scale", initializer=[1.0, 2, 3], use_resource=True)
        tf.compat.v1.get_default_session().run(tf.compat.v1.global_variables_initializer())
        return images * variable

    write("first_manner", conv_pool)
    write("first_manner_variable", with_variable)
    write("first_manner_new_operator", new_operator)
    write("first_manner_grouped_conv", grouped_conv)
    write("first_manner_new_attribute", new_attribute)
    edit(folder / "first_manner", "planted_first_manner_newer_consumer", newer_consumer)
    edit(folder / "first_manner", "planted_first_manner_default_value", default_value)


def main(folder: Path) -> None:
    """Writes every SavedModel."""
    for name, function in MODELS.items():
        if name != "lookup":
            save(folder / name, served(function))
    write_signatures(folder)
    write_planted(folder)
    write_of_one(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
