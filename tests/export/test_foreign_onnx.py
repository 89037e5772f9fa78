"""ONNX files from elsewhere: what is read, and what is refused before it takes memory. `tests/reliability` draws more of them."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import helper, numpy_helper

from export import from_onnx, onnx_runtime
from export.onnx_file import FOREIGN_ADVICE, foreign_files, read_foreign_onnx, read_onnx
from export.onnx_sizes import NEWEST, OLDEST, require_known_sizes
from export.to_savedmodel import onnx_to_savedmodel
from tests.reliability.reader import Files, write
from tests.reliability.readers.foreign_onnx import DATA, NAME, SPECIMENS, append, edited
from zoo.errors import ExportError, OutputError
from zoo.specs import PreprocessSpec

REFUSED = {
    "no_such_file": rf"{DATA} does not exist.*Put it beside {NAME}",
    "weights_in_passwd": r"'w' lies in '/etc/passwd'; expected a file in the folder of",
    "weights_above": r"expected a file in the folder of",
    "weights_in_the_model": r"expected a file in the folder of",
    "weights_on_the_net": r"expected a file in the folder of",
    "weights_behind_the_end": r"beyond the end of model\.onnx\.data",
    "weights_before_the_start": r"'-16' in its file; expected a number of bytes",
    "weights_of_another_size": r"has 12 bytes in model\.onnx\.data, expected 432",
    "weights_in_the_place_of_others": r"in the place of another one",
    "expand": r"the node 'spread' \(Expand\): its result has the shape \[1048576, 4, 1048576, 1\]",
    "tile": r"\(Tile\): its numbers are beyond",
    "constant_of_shape": r"\(ConstantOfShape\): its result has the shape \[1048576, 1048576\]",
    "range": r"\(Range\): its numbers are beyond",
    "random_numbers": r"\(RandomNormal\): its result has the shape",
    "resize": r"\(Resize\): its result has the shape",
    "padding": r"\(Pad\): its result has the shape",
    "joining_itself": r"bytes that do not depend on the images",
    "size_of_pixels": r"\(NonZero\): the size of its result does not follow from that of the images",
    "size_from_pixels": r"\(Tile\): the size of its result does not follow from that of the images",
    "python": r"the operator 'PyOp' of 'ai\.onnx\.contrib'",
    "runtime": r"the operator 'Gelu' of 'com\.microsoft'",
    "functions_call_themselves": r"calls itself",
    "functions_in_a_circle": r"calls itself",
    "functions_doubling": r"nodes with all calls written out",
    "function_missing": r"the operator 'f9' of 'local'",
    "old": r"function 'swish' cannot be written out",
    "no_opset": r"No opset import",
}


def folder(files: Files, path: Path) -> Path:
    write(files, path)
    return path / NAME


def images(side: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, 3, side, side)).astype(np.float32)


def test_every_specimen_is_tried():
    assert {*REFUSED} == {name for name in SPECIMENS if not name.startswith("sound")}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_says_what_is_wrong_and_what_to_do(kind, tmp_path):
    with pytest.raises(
        ExportError, match=rf"{NAME} is not a usable ONNX file: .*{REFUSED[kind]}.*Export the network again"
    ):
        read_foreign_onnx(folder(SPECIMENS[kind], tmp_path), 64)


def test_what_is_read_is_whole_and_computes_the_same(tmp_path):
    path = folder(SPECIMENS["sound"], tmp_path / "a")
    expected = onnx_runtime.run(onnx_runtime.session(path), images(40))
    model = read_foreign_onnx(path, 64)
    assert not model.functions and not any(tensor.external_data for tensor in model.graph.initializer)
    (tmp_path / "a" / DATA).unlink()
    for before, after in zip(expected, onnx_runtime.run(onnx_runtime.session(model), images(40)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_files_of_a_network_are_those_that_it_names(tmp_path, monkeypatch):
    """The export may replace none of them, whatever their names are."""

    def rename(model: onnx.ModelProto) -> None:
        for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
            entry.value = "other.bin" if entry.key == "location" else entry.value

    files = edited(rename)
    path = folder({NAME: files[NAME], "other.bin": files[DATA], DATA: b"of another network"}, tmp_path)
    assert foreign_files(path) == [path, tmp_path / "other.bin"]
    line = ["from_onnx", "--onnx", str(path), "--size", "64", "--out", str(tmp_path / "other.bin")]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(OutputError, match=r"is or holds the input .*other\.bin"):
        from_onnx.main()
    for out in (tmp_path, tmp_path / "other.bin"):
        with pytest.raises(OutputError):
            onnx_to_savedmodel(path, out, PreprocessSpec(64), overwrite=True)
    (tmp_path / "other.bin").unlink()
    with pytest.raises(ExportError, match=r"other\.bin does not exist"):
        onnx_to_savedmodel(path, tmp_path / "out", PreprocessSpec(64))


def test_our_own_door_stays_narrow(tmp_path):
    with pytest.raises(ExportError, match="functions"):
        read_onnx(folder(SPECIMENS["sound"], tmp_path))


def test_weights_may_be_behind_links_of_one_folder_only(tmp_path):
    write(SPECIMENS["sound"], tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in (NAME, DATA):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
    read_foreign_onnx(tmp_path / "snapshot" / NAME, 64)
    for out in ("blobs", "snapshot"):
        with pytest.raises(OutputError, match="is or holds the input"):
            onnx_to_savedmodel(tmp_path / "snapshot" / NAME, tmp_path / out, PreprocessSpec(64), overwrite=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "blobs" / DATA).rename(tmp_path / "elsewhere" / DATA)
    (tmp_path / "blobs" / DATA).symlink_to(tmp_path / "elsewhere" / DATA)
    with pytest.raises(ExportError, match="a link that leads to another folder"):
        read_foreign_onnx(tmp_path / "blobs" / NAME, 64)


def test_the_side_decides_how_large_an_open_image_is(tmp_path):
    def enlarge(model: onnx.ModelProto) -> None:
        [scales] = [tensor for tensor in model.graph.initializer if tensor.name == "scales"]
        scales.CopyFrom(numpy_helper.from_array(np.array([1, 1, 60, 60], np.float32), "scales"))

    path = folder(edited(enlarge), tmp_path)
    read_foreign_onnx(path, 64)
    with pytest.raises(ExportError, match=r"\(Resize\): its result has the shape \[1, 4, 13440, 13440\]"):
        read_foreign_onnx(path, 224)


def test_a_condition_is_refused(tmp_path):
    def add(model: onnx.ModelProto) -> None:
        branch = helper.make_graph(
            [helper.make_node("Identity", ["b"], ["y"])], "g", [], [onnx.ValueInfoProto(name="y")]
        )
        append(model, helper.make_node("If", ["b"], ["z"], "squeeze", then_branch=branch, else_branch=branch))

    with pytest.raises(ExportError, match="its node 'squeeze' contains a graph; conditions and loops"):
        read_foreign_onnx(folder(edited(add), tmp_path), 64)


@pytest.mark.parametrize("kind", ["size_of_pixels", "python", "runtime", "size_from_pixels", "resize"])
def test_what_the_output_does_not_need_may_be_anything(kind, tmp_path):
    path = folder(SPECIMENS[kind], tmp_path)
    model = read_foreign_onnx(path, 64, "descriptors")
    found = onnx_runtime.run(onnx_runtime.session(model), images(40))
    np.testing.assert_array_equal(
        found, onnx_runtime.run(onnx_runtime.session(folder(SPECIMENS["sound"], tmp_path)), images(40))
    )


def test_an_output_of_no_declared_shape_or_type(tmp_path):
    path = folder(edited(lambda model: model.graph.output[0].ClearField("type")), tmp_path)
    assert onnx_runtime.run(onnx_runtime.session(read_foreign_onnx(path, 64)), images(40))[0].shape == (2, 2)


def test_an_input_that_is_left_out_before_others_keeps_no_node(tmp_path):
    """An empty name among a node's inputs is not that of an output which another node leaves out."""

    def edit(model: onnx.ModelProto) -> None:
        dropped = helper.make_node("NonZero", ["a"], [""], "unneeded")
        model.graph.node.insert(1, dropped)

    names = [node.name for node in read_foreign_onnx(folder(edited(edit), tmp_path), 64).graph.node]
    assert "unneeded" not in names and "resize" in names


def test_the_guide_says_which_opsets_are_read():
    guide = (Path(__file__).parents[2] / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
    assert f"- Opset {OLDEST} to {NEWEST};" in guide
    assert f"opset {OLDEST} to {NEWEST} " in FOREIGN_ADVICE
    assert onnx.defs.onnx_opset_version() >= NEWEST


class Pooled(torch.nn.Module):
    """What PyTorch writes sizes for at dynamic sizes: flattening, adaptive pooling, enlarging to the size of another map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.LayerNorm(8)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.conv(x)
        b = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(a, 2), size=a.shape[2:], mode="bilinear")
        c = self.norm((a + b).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        mean = c.flatten(2).mean(2) + torch.nn.functional.adaptive_avg_pool2d(c, 1).view(x.shape[0], -1)
        return torch.nn.functional.normalize(self.fc(mean))


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_pytorch_writes_at_dynamic_sizes(opset, tmp_path):
    path, axes = tmp_path / "a.onnx", {"images": {0: "n", 2: "h", 3: "w"}}
    args = (torch.from_numpy(images(32)),)
    torch.onnx.export(
        Pooled().eval(), args, path, dynamo=False, input_names=["images"], dynamic_axes=axes, opset_version=opset
    )
    assert {"Shape", "Resize"} <= {node.op_type for node in onnx.load(path).graph.node}
    model = read_foreign_onnx(path, 48)
    onnx_runtime.run(onnx_runtime.session(model), images(48))


def test_sizes_are_those_of_onnx_runtime(tmp_path):
    """The largest tensor decides, to the value: a limit below its size refuses it, and one at its size does not."""
    from export import onnx_sizes

    model = read_foreign_onnx(folder(SPECIMENS["sound"], tmp_path), 32)
    model.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in model.graph.node[:-1])
    largest = max(array.size for array in onnx_runtime.run(onnx_runtime.session(model), images(32, batch=1)))
    assert largest == 4 * 64 * 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_sizes, "OF_INPUT", 0)
        patch.setattr(onnx_sizes, "VALUES", largest)
        require_known_sizes(model, 32)
        patch.setattr(onnx_sizes, "VALUES", largest - 1)
        with pytest.raises(ExportError, match=r"\(Resize\)"):
            require_known_sizes(model, 32)


def test_an_input_that_is_left_out_at_the_end_is_not_there(tmp_path):
    """ONNX Runtime crashes on a LayerNormalization whose shift is an empty name."""
    graph = onnx.parser.parse_graph(
        "g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {y = LayerNormalization(x, scale)}"
    )
    graph.node[0].input.append("")
    graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "scale"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / NAME)
    read = read_foreign_onnx(tmp_path / NAME, 8)
    assert list(read.graph.node[0].input) == ["x", "scale"]
    assert np.isfinite(onnx_runtime.run(onnx_runtime.session(read), images(8))[0]).all()


@pytest.mark.parametrize("opset", [18, 21])
def test_a_group_norm_is_as_large_as_its_input(tmp_path, opset):
    graph = onnx.parser.parse_graph(
        "g (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) {n = GroupNormalization<num_groups=2>(x, s, s) y = Relu(n)}"
    )
    graph.initializer.append(numpy_helper.from_array(np.ones(2 if opset < 21 else 4, np.float32), "s"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), tmp_path / NAME)
    assert len(read_foreign_onnx(tmp_path / NAME, 8).graph.node) == 2
