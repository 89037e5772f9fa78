"""What a step of an export says when it fails."""

import re

import pytest

from export.steps import run_step
from zoo.errors import ExportError


def test_an_error_of_a_step_is_told_in_its_own_words(tmp_path):
    options = ("--onnx", tmp_path / "none.onnx", "--size", 64, "--out", tmp_path / "out.onnx")
    with pytest.raises(ExportError, match=rf"^{re.escape(str(tmp_path))}/none\.onnx does not exist") as found:
        run_step("export.from_onnx", *options)
    assert "error: " not in str(found.value)


def test_any_other_failure_names_the_step():
    with pytest.raises(ExportError, match=r"^export\.from_onnx failed \(status 2\):\nusage: "):
        run_step("export.from_onnx")
