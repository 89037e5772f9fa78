"""What tells two SavedModels apart that do not say which checkpoint they were made from."""

import shutil

import pytest

from zoo.manifest import saved_model_sha256


@pytest.mark.parametrize("changed", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/more"])
def test_asaved_model_sha256_follows_the_graph_and_the_variables(tmp_path, changed):
    folder = tmp_path / "a"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"):
        (folder / name).write_bytes(b"1")
    shutil.copytree(folder, tmp_path / "b")
    assert saved_model_sha256(folder) == saved_model_sha256(tmp_path / "b")
    (folder / changed).write_bytes(b"2")
    assert saved_model_sha256(folder) != saved_model_sha256(tmp_path / "b")
