"""No command replaces its own input: it is refused before the input is read."""

import runpy
import sys

import pytest

COMMANDS = [
    ("retrieval.whitening", ["--embeddings", "INPUT", "--dimensions", "4"]),
    ("export.normal_form.__main__", ["--onnx", "INPUT"]),
    ("zoo.import_weights", ["INPUT", "--model", "resnet18"]),
    ("torch_models.write_weights", ["--ckpt", "INPUT"]),
    ("paddle_models.write_weights", ["--ckpt", "INPUT"]),
    ("retrieval.search", ["--index", "INPUT", "--queries", "q"]),
    ("retrieval.search", ["--index", "i", "--queries", "INPUT"]),
    ("retrieval.search", ["--index", "i", "--queries", "q", "--rerank", "INPUT"]),
    ("retrieval.viewer.__main__", ["--predictions", "INPUT", "--data", "."]),
    ("retrieval.tune", ["--train", "INPUT", "--data", "."]),
    ("torch_models.embed", ["--ckpt", "INPUT", "--data", "."]),
    ("paddle_models.embed", ["--ckpt", "INPUT", "--data", "."]),
    ("export.embed", ["INPUT", "--data", "."]),
    ("export.to_savedmodel", ["--ckpt", "INPUT", "--overwrite"]),
    ("export.to_savedmodel", ["--onnx", "INPUT", "--size", "64", "--overwrite"]),
    ("export.from_onnx", ["--onnx", "INPUT", "--size", "64"]),
    ("export.ensemble", ["--members", "m", "--whitening", "INPUT", "--overwrite"]),
]


@pytest.mark.parametrize("out", ["input", "link", "hard"])
@pytest.mark.parametrize(("module", "words"), COMMANDS)
def test_out_is_the_input(tmp_path, module, words, out, monkeypatch, capsys):
    given = tmp_path / "input"
    given.write_bytes(b"mine")
    (tmp_path / "link").symlink_to("input")
    (tmp_path / "hard").hardlink_to(given)
    words = [str(given) if word == "INPUT" else word for word in words]
    monkeypatch.setattr(sys, "argv", [module, *words, "--out", str(tmp_path / out)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    assert "is or holds the input" in capsys.readouterr().err
    assert given.read_bytes() == b"mine"


@pytest.mark.parametrize("out", ["data/index.csv", "data/index", "data/index/0", "linked.csv", "data/index/0/new"])
@pytest.mark.parametrize("module", ["torch_models.embed", "export.embed"])
def test_out_is_a_table_or_a_folder_of_the_data_set(tmp_path, module, out, monkeypatch, capsys):
    (tmp_path / "data" / "index" / "0").mkdir(parents=True)
    table = tmp_path / "data" / "index.csv"
    table.write_text("id\n", encoding="utf-8")
    (tmp_path / "linked.csv").symlink_to(table)
    model = ["--ckpt", "m"] if module == "torch_models.embed" else ["m"]
    words = [*model, "--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    assert "the input" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") == "id\n"
