"""No partial file ever has its final name, and no existing file is lost."""

import errno
import os

import pytest

from zoo.errors import OutputError
from zoo.files import new_file, new_folder


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), new_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path):
    with new_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_folder_that_holds_something(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="already contains 'mine'"), new_folder(tmp_path / "out"):
        pass
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out", overwrite=True):
        raise RuntimeError
    assert (tmp_path / "out" / "mine").exists()
    with new_folder(tmp_path / "out", overwrite=True) as partial:
        (partial / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"), new_file(tmp_path / "file" / "a.txt"):
        pass


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some disk space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "change the permissions"),
    ],
)
@pytest.mark.parametrize("new", [new_file, new_folder])
def test_an_error_of_the_disk_says_what_to_do(tmp_path, new, number, advice):
    with pytest.raises(OutputError, match=advice), new(tmp_path / "out"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("new", [new_file, new_folder])
@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "input"), ConnectionResetError(), ValueError()])
def test_another_error_of_the_body_is_its_own(tmp_path, new, error):
    with pytest.raises(type(error)) as caught, new(tmp_path / "out"):
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_protected_input_is_not_reported_as_the_output(tmp_path):
    with pytest.raises(PermissionError), new_file(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input"))


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    """The old folder has already been moved away when the new one cannot be renamed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    rename, failed = os.replace, []

    def fail_once(source, target):
        if target == tmp_path / "out" and not failed:
            failed.append(source)
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with (
        pytest.raises(OutputError, match="What existed before is unchanged"),
        new_folder(tmp_path / "out", overwrite=True) as partial,
    ):
        (partial / "new").touch()
    assert failed
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]
