"""No partial file ever has its final name, and no existing file is lost."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import claims, files
from zoo.errors import OutputError
from zoo.files import new_file, new_folder, require_elsewhere


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


@pytest.mark.parametrize("atomic", [True, False])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, atomic):
    """Whether or not the system can exchange two folders at once."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    rename, failed = os.rename, []

    def fail_once(source, target):
        if target == tmp_path / "out" and len(failed) < 2:
            failed.append(source)
            raise OSError(errno.ENOTEMPTY if len(failed) == 1 else errno.EIO, "Input/output error")
        rename(source, target)

    def no_exchange(one, other):
        if atomic:
            raise OSError(errno.EIO, "Input/output error")
        return False

    monkeypatch.setattr(os, "rename", fail_once)
    monkeypatch.setattr(files, "exchange", no_exchange)
    with (
        pytest.raises(OutputError, match="What existed before is unchanged"),
        new_folder(tmp_path / "out", overwrite=True) as partial,
    ):
        (partial / "new").touch()
    assert failed
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_the_second_of_two_runs_is_refused_at_once_and_the_first_is_kept(tmp_path):
    code = "import sys; from zoo.files import new_folder\nwith new_folder(sys.argv[1]): pass"
    with new_folder(tmp_path / "out") as partial:
        (partial / "first").touch()
        second = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], capture_output=True, encoding="utf-8")
        assert "is being written by another process" in second.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_overwrite_a_result_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="already contains 'theirs'"), new_folder(tmp_path / "out") as partial:
        (partial / "ours").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_link_to_a_folder_stays_and_its_target_is_filled(tmp_path, exists, overwrite):
    if exists:
        (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    with new_folder(tmp_path / "link", overwrite=overwrite) as partial:
        (partial / "a").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "a").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_a_link_to_a_file_stays(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with new_file(tmp_path / "link") as partial:
        partial.write_text("new", encoding="utf-8")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text(encoding="utf-8") == "new"


def test_a_mounted_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "is_mounted", lambda folder: True)
    out = tmp_path / "out"
    (out / "lost+found").mkdir(parents=True)
    inode = out.stat().st_ino
    for name in ("first", "second"):
        with new_folder(out, overwrite=name == "second") as partial:
            (partial / name).touch()
        assert sorted(path.name for path in out.iterdir()) == sorted(["lost+found", name])
    assert out.stat().st_ino == inode


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_files_and_folders_have_the_modes_that_the_umask_allows(tmp_path, umask):
    old = os.umask(umask)
    try:
        with new_file(tmp_path / "file") as partial:
            partial.unlink()
            os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
        with new_folder(tmp_path / "folder") as partial:
            (partial / "inner").mkdir(mode=0o700)
            os.close(os.open(partial / "inner" / "file", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(old)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert found["file"] == 0o666 & ~umask
    assert found["folder"] == found["inner"] == 0o777 & ~umask


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".out.0123abcd.partial" / "half").touch()
    (tmp_path / ".out.0123abce.partial").touch()
    other = tmp_path / ".other.0123abcd.partial"
    other.touch()
    with new_folder(tmp_path / "out") as living:
        assert sorted(tmp_path.glob(".out.*.partial")) == [living]
        with claims.claimed(tmp_path / "out"):
            assert living.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "out"]


def test_what_a_killed_overwrite_moved_away_comes_back(tmp_path):
    (tmp_path / ".out.0123abcd.replaced").mkdir()
    (tmp_path / ".out.0123abcd.replaced" / "mine").touch()
    with pytest.raises(OutputError, match="already contains 'mine'"), new_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("new", [new_file, new_folder])
@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, new, name):
    with new(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="choose a shorter one"), new(tmp_path / (name + "yy")):
        pass


def test_devices_and_folders_are_no_files_to_replace(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(OutputError, match="expected a file"), new_file(path):
            pass


@pytest.mark.parametrize("out", ["in", "folder", "link", "hard", "in/part", "folder/in/../in"])
def test_an_input_is_not_replaced(tmp_path, out):
    (tmp_path / "folder" / "in").mkdir(parents=True)
    file = tmp_path / "folder" / "in" / "file"
    file.touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "in").symlink_to("folder/in")
    with pytest.raises(OutputError, match="the input"):
        require_elsewhere(tmp_path / out, [tmp_path / "folder" / "in", file])
    require_elsewhere(tmp_path / "folder" / "new", [file])
    require_elsewhere(tmp_path / "folder" / "in" / "new", [file], around=[tmp_path / "folder" / "in"])
