"""Virtual environments for packages that conflict with the project's own. Scripts play the parts of Python, uv and pip."""

import sys
from pathlib import Path

import pytest

from zoo import environments
from zoo.environments import find_python, is_stamped, make_environment, python_variable, write_stamp
from zoo.errors import MissingToolError


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch, tmp_path) -> Path:
    """A machine without Python 3.8 and uv: only the returned folder on PATH, and an empty home."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "own" / "python", "echo 3.11")))
    for variable in ("PYENV_ROOT", python_variable("3.8")):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "bin"


def fake_python(path: Path, log: Path, pip: str = "") -> Path:
    """A Python 3.8 that makes environments whose python is itself, and whose pip runs `pip`."""
    copy = '/bin/mkdir -p "$5/bin"; /bin/cp "$0" "$5/bin/python"'  # python -I -m venv --clear FOLDER → $5
    return script(
        path,
        f"""echo "$@" >> {log}
        case "$*" in *ensurepip*) echo 3.8;; *"-m venv"*) {copy};; *"-m pip"*) {pip or ":"};; esac""",
    )


def fake_uv(path: Path, log: Path, fails: str = "nothing fails") -> Path:
    return script(path, f'echo "uv $@" >> {log}\ncase "$*" in *"{fails}"*) exit 1;; esac')


def test_a_python_that_does_not_run_is_skipped(bare, tmp_path):
    script(bare / "python3.8", "echo 'pyenv: python3.8: command not found' >&2; exit 127")
    versions = tmp_path / "home" / ".pyenv" / "versions"
    script(versions / "3.8.20" / "bin" / "python", "echo 3.9")
    old = script(versions / "3.8.6" / "bin" / "python", "echo 3.8")
    assert find_python("3.8") == old
    new = script(versions / "3.8.18" / "bin" / "python", "echo 3.8")
    assert find_python("3.8") == new, "3.8.18 is newer than 3.8.6"


def test_the_variable_comes_first(bare, tmp_path, monkeypatch):
    on_path = script(bare / "python3.8", "echo 3.8")
    assert find_python("3.8") == on_path
    chosen = script(tmp_path / "chosen", "echo 3.8")
    monkeypatch.setenv("LANDMARK_ZOO_PYTHON38", str(chosen))
    assert find_python("3.8") == chosen


def test_no_python_and_no_uv_says_what_to_do(bare, tmp_path):
    script(bare / "python3.8", "exit 1")
    with pytest.raises(MissingToolError, match=r"(?s)LANDMARK_ZOO_PYTHON38.*uv python install 3\.8"):
        make_environment(tmp_path / "environment", "3.8", ["six"])


def test_uv_is_preferred_and_may_download_the_python(bare, tmp_path):
    fake_uv(bare / "uv", log := tmp_path / "log")
    make_environment(tmp_path / "environment", "3.8", ["six"], first=["torch==1"], first_index="https://index")
    venv, first, others, check = log.read_text().splitlines()
    assert venv.endswith(f"--python 3.8 {tmp_path / 'environment'}"), "without a Python 3.8 uv is asked for one"
    assert "--no-deps --index-url https://index torch==1" in first
    assert others.endswith("six") and "index" not in others
    assert "pip check" in check


def test_pip_makes_the_environment_if_uv_fails(bare, tmp_path):
    fake_uv(bare / "uv", log := tmp_path / "log", fails="pip install")
    fake_python(bare / "python3.8", log)
    python = make_environment(tmp_path / "environment", "3.8", ["-r", "pins.txt"])
    assert python == tmp_path / "environment" / "bin" / "python"
    lines = log.read_text().splitlines()
    assert lines[0].endswith("ensurepip, venv; print('%d.%d' % sys.version_info[:2])")
    assert [line.split()[0] for line in lines[1:3]] == ["uv", "uv"]
    assert any("-m pip install" in line and line.endswith("-r pins.txt") for line in lines)


def test_pip_takes_the_first_packages_from_its_own_index_if_theirs_is_unreachable(bare, tmp_path):
    fake_python(bare / "python3.8", log := tmp_path / "log", pip='case "$*" in *--index-url*) exit 1;; esac')
    make_environment(tmp_path / "environment", "3.8", ["six"], first=["torch==1"], first_index="https://index")
    installs = [line for line in log.read_text().splitlines() if "pip install" in line]
    assert [line.split()[-1] for line in installs] == ["torch==1", "torch==1", "six"]
    assert "--index-url https://index" in installs[0]
    assert "--index-url" not in installs[1] and "--no-deps" in installs[1]


def test_a_failed_installation_is_an_error(bare, tmp_path):
    fake_python(bare / "python3.8", tmp_path / "log", pip="exit 1")
    with pytest.raises(MissingToolError, match=r"-m pip install .* failed"):
        make_environment(tmp_path / "environment", "3.8", ["six"])


def test_a_stamp_is_valid_for_its_pins_only(tmp_path):
    pins, stamp = tmp_path / "pins.txt", tmp_path / "stamp.json"
    pins.write_text("six==1.17.0\n")
    assert not is_stamped(stamp, pins)
    write_stamp(stamp, pins)
    assert is_stamped(stamp, pins)
    pins.write_text("six==1.16.0\n")
    assert not is_stamped(stamp, pins)


def test_an_installed_package_keeps_environments_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert environments.environment_folder(".venv-x") == Path(environments.__file__).parents[1] / ".venv-x"
    monkeypatch.setattr(environments, "_ROOT", tmp_path / "site-packages")
    assert environments.environment_folder(".venv-x") == tmp_path / "cache" / "landmark-zoo" / "venv-x"
