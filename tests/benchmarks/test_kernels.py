"""The benchmark of convolutions as matrix products: what it counts, and its table."""

from onnx import TensorProto, helper

from benchmarks import kernels
from benchmarks.serving_tables import TF22
from export.exporters import INPUT


def test_a_convolution_is_the_product_of_its_patches_and_its_filters() -> None:
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [8, 3, 3, 3], [0.0] * 216)
    graph = helper.make_graph(
        [helper.make_node("Conv", [INPUT, "weight"], ["maps"], strides=[2, 2], pads=[1, 1, 1, 1])],
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 8, None, None])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert kernels.products(model, 2) == [(2 * 112 * 112, 27, 8)]
    assert model.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "H"  # the model itself is not changed


def test_table_compares_with_onnx_runtime() -> None:
    row = {"model": "resnet50", "batch": 1, "version": "2.2.0", "gflop": 8.0}
    lines = kernels.table(
        [
            row | {"runtime": kernels.ONNX_RUNTIME, "ms": 20.0, "operators": {"Conv": 19.0}, "products": 18.0},
            row | {"runtime": TF22, "ms": 50.0, "operators": {"_FusedConv2D": 45.0, "AddV2": 2.0}, "products": 40.0},
        ]
    ).splitlines()
    assert lines[-1] == "| resnet50 | 1 | TensorFlow 2.2.0 | 50.0 | 2.50 | 45.0 | 40.0 (200) | AddV2 2.0 |"
