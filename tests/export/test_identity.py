"""What tells two SavedModels apart that do not say which checkpoint they were made from."""

import shutil

import pytest

from export.embedder import _fingerprint


@pytest.mark.parametrize("changed", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/more"])
def test_a_fingerprint_follows_the_graph_and_the_variables(tmp_path, changed):
    folder = tmp_path / "a"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"):
        (folder / name).write_bytes(b"1")
    shutil.copytree(folder, tmp_path / "b")
    assert _fingerprint(folder) == _fingerprint(tmp_path / "b")
    (folder / changed).write_bytes(b"2")
    assert _fingerprint(folder) != _fingerprint(tmp_path / "b")
