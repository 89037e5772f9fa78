"""Reads operators and kernels from an installed TensorFlow; started by `export/checker/make_registries.py` in its Python.

Stand-alone: Python 3.6 syntax, because TensorFlow 2.0 supports Python up to 3.7, and no imports from this project.

    python registry_worker.py OUT.json
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # TensorFlow reads it on import, so it is set before
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import graph_pb2, op_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_object_graph_pb2, struct_pb2
from tensorflow.python.framework import kernels

try:
    from tensorflow.python.client import pywrap_tf_session as c_api
except ImportError:  # TensorFlow 2.0 and 2.1
    from tensorflow.python import pywrap_tensorflow as c_api


def argument(arg):
    """One input or output of an operator: the sources of its type and number."""
    fixed = types_pb2.DataType.Name(arg.type) if arg.type else ""
    return [arg.name, fixed, arg.type_attr, arg.number_attr, arg.type_list_attr]


def attribute(attr):
    """One attribute: its type and, if it has them, default, allowed values and minimum."""
    found = {"type": attr.type}
    if attr.HasField("default_value"):
        found["default"] = json_format.MessageToDict(attr.default_value)
    if attr.HasField("allowed_values"):
        allowed = attr.allowed_values.list
        found["allowed"] = [types_pb2.DataType.Name(t) for t in allowed.type] or [s.decode() for s in allowed.s]
    if attr.has_minimum:
        found["minimum"] = attr.minimum
    return found


def read_ops():
    """{name: operator} of the whole registry."""
    ops = op_def_pb2.OpList()
    ops.ParseFromString(c_api.TF_GetBuffer(c_api.TF_GetAllOpList()))
    return {
        op.name: {
            "in": [argument(arg) for arg in op.input_arg],
            "out": [argument(arg) for arg in op.output_arg],
            "attrs": {attr.name: attribute(attr) for attr in op.attr},
            "stateful": op.is_stateful,
        }
        for op in ops.op
    }


def read_kernels():
    """{operator: [{attribute: [types]}]} of the CPU kernels that need no label.

    Up to TensorFlow 2.2 every process also has a device XLA_CPU, which runs nodes without a CPU kernel; its kernels are
    registered when the devices are created. A kernel for "DEFAULT" is used on devices without their own.
    """
    tf.constant(1) + 1  # creates the devices
    devices = {"DEFAULT"} | {device.device_type for device in tf.config.experimental.list_physical_devices()}
    found = {}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type in devices - {"GPU", "XLA_GPU"} and not kernel.label:
            types = {
                c.name: [types_pb2.DataType.Name(t) for t in c.allowed_values.list.type] for c in kernel.constraint
            }
            if types not in found.setdefault(kernel.op, []):
                found[kernel.op].append(types)
    return {op: sorted(kernels_of, key=json.dumps) for op, kernels_of in found.items()}


def runs(call):
    """Whether a call succeeds; forms that kernels refuse are not in any registry."""
    try:
        call()
    except (tf.errors.OpError, ValueError):
        return False
    return True


def takes_unknown_attributes():
    """Whether a node may have attributes that its operator does not define."""
    graph_def = graph_pb2.GraphDef()
    node = graph_def.node.add()
    node.name, node.op = "a", "NoOp"
    node.attr["no_such_attribute"].b = True
    with tf.Graph().as_default():
        return runs(lambda: tf.import_graph_def(graph_def))


def refused_by_kernels():
    """Names of the forms, known to `export/checker/kernel_rules.py`, that this TensorFlow's CPU kernels refuse.

    They are tried in graphs, as SavedModels are run: some kernels are chosen there only.
    """
    tf.config.optimizer.set_experimental_options({"constant_folding": False})
    half = {"input": tf.ones([1, 8, 8, 4], tf.bfloat16), "filter": tf.ones([3, 3, 4, 4], tf.bfloat16)}
    map4, kernel, ones = (np.ones(shape, np.float32) for shape in ((1, 8, 8, 4), (3, 3, 4, 4), (4,)))
    map5, kernel5 = np.ones((1, 4, 4, 4, 4), np.float32), np.ones((2, 2, 2, 4, 4), np.float32)
    raw, step = tf.raw_ops, [1, 1, 1, 1]
    window = {"ksize": step, "strides": step, "padding": "VALID", "data_format": "NCHW"}
    window5 = {"ksize": [1] * 5, "strides": [1] * 5, "padding": "VALID", "data_format": "NCDHW"}
    conv = {"strides": step, "padding": "SAME"}
    norm = {"scale": ones, "offset": ones, "mean": ones, "variance": ones, "is_training": False}
    nchw = np.ones((1, 4, 8, 8), np.float32)
    dense = {"input_sizes": [1, 8, 8, 4], "filter": kernel, "out_backprop": map4, "padding": "SAME", "strides": step}
    forms = {
        "Conv2D groups": lambda: raw.Conv2D(input=map4, filter=kernel[:, :, :2], **conv),
        "Conv2D NCHW": lambda: raw.Conv2D(input=nchw, filter=kernel, data_format="NCHW", **conv),
        "Conv2D DT_BFLOAT16": lambda: raw.Conv2D(**dict(conv, **half)),
        "Conv2DBackpropInput NCHW": lambda: raw.Conv2DBackpropInput(
            **dict(dense, input_sizes=[1, 4, 8, 8], out_backprop=nchw, data_format="NCHW")
        ),
        "Conv2DBackpropInput dilations": lambda: raw.Conv2DBackpropInput(dilations=[1, 2, 2, 1], **dense),
        "Conv3D groups": lambda: raw.Conv3D(input=map5, filter=kernel5[:, :, :, :2], strides=[1] * 5, padding="SAME"),
        "Conv3D NCDHW": lambda: raw.Conv3D(
            input=map5, filter=kernel5, strides=[1] * 5, padding="SAME", data_format="NCDHW"
        ),
        "DepthwiseConv2dNative NCHW": lambda: raw.DepthwiseConv2dNative(
            input=nchw, filter=kernel, data_format="NCHW", **conv
        ),
        "DepthwiseConv2dNative strides": lambda: raw.DepthwiseConv2dNative(
            input=map4, filter=kernel, strides=[1, 1, 2, 1], padding="SAME"
        ),
        "MaxPool NCHW": lambda: raw.MaxPool(input=nchw, **window),
        "AvgPool NCHW": lambda: raw.AvgPool(value=nchw, **window),
        "MaxPool3D NCDHW": lambda: raw.MaxPool3D(input=map5, **window5),
        "AvgPool3D NCDHW": lambda: raw.AvgPool3D(input=map5, **window5),
        "BiasAdd NCHW": lambda: raw.BiasAdd(value=nchw, bias=ones, data_format="NCHW"),
        "FusedBatchNorm NCHW": lambda: raw.FusedBatchNorm(x=nchw, data_format="NCHW", **norm),
        "FusedBatchNormV2 NCHW": lambda: raw.FusedBatchNormV2(x=nchw, data_format="NCHW", **norm),
        "FusedBatchNormV3 NCHW": lambda: raw.FusedBatchNormV3(x=nchw, data_format="NCHW", **norm),
        "DepthToSpace NCHW": lambda: raw.DepthToSpace(input=nchw, block_size=2, data_format="NCHW"),
        "SpaceToDepth NCHW": lambda: raw.SpaceToDepth(input=nchw, block_size=2, data_format="NCHW"),
    }
    return sorted(name for name, call in forms.items() if not runs(tf.function(call)))


def kinds(message, oneof):
    """Names of the alternatives of a protobuf `oneof`."""
    return sorted(field.name for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields)


def main():
    registry = {
        "tensorflow": tf.__version__,
        "graph_def": {
            "producer": tf.version.GRAPH_DEF_VERSION,
            "min_consumer": tf.version.GRAPH_DEF_VERSION_MIN_CONSUMER,
            "min_producer": tf.version.GRAPH_DEF_VERSION_MIN_PRODUCER,
        },
        "object_kinds": kinds(saved_object_graph_pb2.SavedObject, "kind"),
        "value_kinds": kinds(struct_pb2.StructuredValue, "kind"),
        "type_specs": sorted(struct_pb2.TypeSpecProto.TypeSpecClass.keys()),
        "types": sorted(name for name in list(types_pb2.DataType.keys()) if not name.endswith("_REF")),
        "takes_unknown_attributes": takes_unknown_attributes(),
        "refused": refused_by_kernels(),
        "ops": read_ops(),
        "kernels": read_kernels(),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(registry, file, sort_keys=True)


if __name__ == "__main__":
    main()
