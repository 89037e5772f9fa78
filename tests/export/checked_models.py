"""Writes the small SavedModels that `export/check.py` is tested on, each with something that TensorFlow 2.2 accepts or rejects.

    python -m tests.export.checked_models FOLDER

Each is FOLDER/<name> and maps input_image uint8 [H, W, 3] to global_descriptor float32 [D]. Whether TensorFlow 2.2
runs them is not stated here: the tests run it. Models whose names begin with "planted_" were changed after saving.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.export.checked_layers import MODELS, conv_pool, grouped_conv
from tests.export.checked_novelties import LOOKUP, lookup, new_attribute, new_operator


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
    """A copy of a SavedModel under another name, with its graph modified by `change`."""
    folder = source.parent / name
    shutil.copytree(source, folder)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def nodes_of(graph, op: str) -> list:
    return [node for function in graph.graph_def.library.function for node in function.node_def if node.op == op]


def write_signatures(folder: Path) -> None:
    """SavedModels with valid networks and various signatures."""
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
    """A kind of value that is unknown to TensorFlow 2.2."""

    __name__ = "landmark_zoo.Pair"
    first: tf.Tensor


VARIABLE = tf.Variable([1.0, 2, 3])


def write_planted(folder: Path) -> None:
    """SavedModels with one thing that our writer would not write."""
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
    """SavedModels in the style of TensorFlow 1, with their nodes in the graph itself, one of them modified."""

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
