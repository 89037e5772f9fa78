"""torch → onnx, paddle → onnx and onnx → normal form for a small version of every family, in ONNX Runtime."""

import importlib
from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

from export import parity
from export.exporters import INPUT, export_onnx
from export.normal_form import rewrites as normal_form
from export.normal_form.proven import on_graph
from export.onnx_file import read_onnx
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import exported, in_normal_form, small, small_checkpoint
from zoo.checkpoint import Checkpoint, fingerprint
from zoo.errors import ExportError


def run(model: onnx.ModelProto, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {str(number): session.run(None, {INPUT: images})[0] for number, images in enumerate(inputs)}


def reference(checkpoint: Checkpoint, framework: str, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    model = importlib.import_module(f"{framework}_models.checkpoint").build(checkpoint)
    intermediates = importlib.import_module(f"{framework}_models.embedder").intermediates
    return {str(number): intermediates(model, images)["descriptor"] for number, images in enumerate(inputs)}


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_onnx_and_its_normal_form_equal_the_network(small_name, network_inputs, framework, tmp_path):
    checkpoint, rewritten = small_checkpoint(small_name), in_normal_form(small_name, framework)
    expected = reference(checkpoint, framework, network_inputs)
    found, normal = run(exported(small_name, framework), network_inputs), run(rewritten, network_inputs)
    parity.require(
        [
            parity.measure(f"{framework} → onnx", "small", expected, found),
            parity.measure("onnx → normal form", "small", found, normal),
        ]
    )
    properties = {entry.key: entry.value for entry in rewritten.metadata_props}
    assert properties["checkpoint_sha256"] == fingerprint(checkpoint)
    assert properties["exported_from"] == framework
    assert [i.name for i in rewritten.graph.input] == [INPUT]
    for name, model in {"export": exported(small_name, framework), "normal_form": rewritten}.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
        read_onnx(tmp_path / f"{name}.onnx")  # each step of a conversion reads the last one's file through this door


def test_both_frameworks_end_in_the_same_form(small_name):
    """The rewrites are the same for both frameworks: the results have the same operators."""
    models = [in_normal_form(small_name, framework) for framework in ("torch", "paddle")]
    counts = [Counter(node.op_type for node in model.graph.node) for model in models]
    assert counts[0] == counts[1]
    assert not normal_form.FORBIDDEN & set(counts[0])


def test_radix_two_needs_no_split():
    """The convolution before the groups is split instead, and the softmax is one sigmoid."""
    model = normal_form.normal_form(export_onnx(random_checkpoint(small("resnest50"), 1), "torch"))
    counts = Counter(node.op_type for node in model.graph.node)
    assert (counts["Split"], counts["Concat"], counts["Sigmoid"]) == (0, 0, 5)


def test_a_rewrite_that_changes_the_network_is_caught(monkeypatch):
    """A planted error in a rewrite is detected, and no normal form is returned."""

    def planted(graph: gs.Graph) -> None:
        convolution = next(node for node in graph.nodes if node.op == "Conv")
        convolution.inputs[1].values = convolution.inputs[1].values[:, :, ::-1].copy()

    monkeypatch.setattr(normal_form, "REWRITES", (*normal_form.REWRITES, on_graph(planted)))
    with pytest.raises(ExportError, match="'planted' changed the network"):
        normal_form.normal_form(export_onnx(random_checkpoint(small("resnet18"), 1), "torch"))


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("split_grouped_convolutions", "Conv with groups"),
        ("split_attention_without_reshape", "Reshape|Transpose|Softmax"),
        ("explicit_average_pooling", "AveragePool with padding"),
    ],
)
def test_what_a_rewrite_leaves_out_is_refused(monkeypatch, missing, left):
    kept = tuple(rewrite for rewrite in normal_form.REWRITES if rewrite.__name__ != missing)
    monkeypatch.setattr(normal_form, "REWRITES", kept)
    with pytest.raises(ExportError, match=left):
        normal_form.normal_form(export_onnx(random_checkpoint(small("resnest50"), 1), "torch"))
