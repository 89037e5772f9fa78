"""The environment of TensorFlow 2.2.0 and calls in it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from export import tf22
from export.tf22 import environment as tf22_environment
from export.tf22 import runner
from zoo.errors import ExportError, MissingToolError
from zoo.signature import BATCH_SIGNATURE


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch, tmp_path) -> Path:
    """A machine without Python 3.8: only the returned folder on PATH, and an empty home."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(tf22_environment.PYTHON38_VARIABLE, raising=False)
    return tmp_path / "bin"


def test_contest_calls_are_positional_and_keep_their_names(tiny_saved_models, tiny_descriptor, tf22_python, tmp_path):
    generator = np.random.default_rng(0)
    images = {
        f"a{n}": generator.integers(0, 256, (h, w, 3), np.uint8) for n, (h, w) in enumerate([(5, 7), (1, 1), (8, 3)])
    }
    np.savez(tmp_path / "in.npz", **images)
    call = tf22.Call(saved_model=tiny_saved_models / "good", inputs=tmp_path / "in.npz", outputs=tmp_path / "out.npz")
    report = tf22.run_calls([call], python=tf22_python)
    with np.load(tmp_path / "out.npz") as outputs:
        assert set(outputs.files) == set(images)
        for name, image in images.items():
            assert outputs[name].dtype == np.float32 and outputs[name].shape == (8,)
            np.testing.assert_allclose(outputs[name], tiny_descriptor(image), rtol=0, atol=1e-6)
    assert report["tensorflow"] == "2.2.0"
    assert set(report["seconds"][0]) == set(images)


def test_batch_calls_pass_each_input_by_its_name(
    tiny_saved_models, tiny_descriptor, tf22_python, tmp_path, monkeypatch
):
    # A numpy of another Python on PYTHONPATH must not reach the worker.
    script(tmp_path / "path" / "numpy.py", "raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    generator = np.random.default_rng(1)
    small, large = (generator.uniform(0, 255, (2, size, size, 3)).astype(np.float32) for size in (16, 24))
    np.savez(
        tmp_path / "in.npz",
        **{"0/images_16": small, "0/images_24": large, "1/images_24": large[:1], "1/images_16": small[:1]},
    )
    call = {
        "saved_model": tiny_saved_models / "good",
        "signature": BATCH_SIGNATURE,
        "inputs": tmp_path / "in.npz",
        "outputs": tmp_path / "out.npz",
    }
    tf22.run_calls([call], python=tf22_python)
    expected = np.stack([tiny_descriptor(a) + tiny_descriptor(b) for a, b in zip(small, large, strict=True)])
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs["0/global_descriptor"], expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(outputs["1/global_descriptor"], expected[:1], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("signature", "key", "dtype", "message"),
    [
        ("no_such_signature", "0/x", np.uint8, "expected signature 'no_such_signature'"),
        ("serving_default", "a0", np.float32, "float"),
        ("serving_default", "0/input_image", np.uint8, "expects plain names"),
    ],
)
def test_a_failing_call_leaves_nothing(signature, key, dtype, message, tiny_saved_models, tf22_python, tmp_path):
    np.savez(tmp_path / "in.npz", **{key: np.zeros((4, 4, 3), dtype)})
    call = tf22.Call(
        saved_model=tiny_saved_models / "good",
        signature=signature,
        inputs=tmp_path / "in.npz",
        outputs=tmp_path / "out.npz",
    )
    with pytest.raises(ExportError, match=message):
        tf22.run_calls([call], python=tf22_python)
    assert os.listdir(tmp_path) == ["in.npz"]


def test_a_worker_killed_by_a_signal_is_an_export_error(tmp_path):
    python = script(tmp_path / "python", "echo 'Check failed: shape' >&2; kill -ABRT $$")
    with pytest.raises(ExportError, match="(?s)status -6.*Check failed: shape"):
        tf22.run_calls([], python=python)


def test_the_variable_comes_first_and_must_run(monkeypatch, tmp_path):
    python = script(tmp_path / "python", "")
    monkeypatch.setenv(tf22.PYTHON_VARIABLE, str(python))
    assert tf22.require_python() == python
    monkeypatch.setenv(tf22.PYTHON_VARIABLE, str(tmp_path / "missing"))
    assert tf22.find_python() is None
    with pytest.raises(MissingToolError, match=f"{tf22.PYTHON_VARIABLE} names .*missing"):
        tf22.require_python()


def test_a_half_made_environment_is_not_found(monkeypatch, tmp_path):
    monkeypatch.delenv(tf22.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(runner, "ENVIRONMENT", tmp_path)
    python = script(tmp_path / "bin" / "python", "echo 2.2.0")
    with pytest.raises(MissingToolError, match="make tf22"):
        tf22.require_python()
    (tmp_path / tf22_environment.STAMP).write_text("{}")
    assert tf22.find_python() == python


def test_python38_skips_what_does_not_run(bare, tmp_path):
    script(bare / "python3.8", "echo 'pyenv: python3.8: command not found' >&2; exit 127")
    script(bare / "pyenv", f"echo {tmp_path}/pyenv")
    script(tmp_path / "pyenv" / "versions" / "3.8.20" / "bin" / "python", "echo 3.9")
    old = script(tmp_path / "pyenv" / "versions" / "3.8.6" / "bin" / "python", "echo 3.8")
    assert tf22_environment.find_python38() == old
    new = script(tmp_path / "pyenv" / "versions" / "3.8.18" / "bin" / "python", "echo 3.8")
    assert tf22_environment.find_python38() == new


def test_python38_from_the_variable_then_from_uv(bare, tmp_path, monkeypatch):
    fetched = tmp_path / "uv" / "python"
    script(
        bare / "uv",
        f"""case "$2" in
        find) test -e {fetched} && echo {fetched};;
        install) /bin/mkdir -p {fetched.parent}
            printf '#!/bin/sh\\necho 3.8\\n' > {fetched}; /bin/chmod 755 {fetched};;
        esac""",
    )
    assert tf22_environment.find_python38() == fetched
    chosen = script(tmp_path / "chosen", "echo 3.8")
    monkeypatch.setenv(tf22_environment.PYTHON38_VARIABLE, str(chosen))
    assert tf22_environment.find_python38() == chosen


def test_no_python38_says_what_to_do(bare):
    script(bare / "python3.8", "exit 1")
    with pytest.raises(MissingToolError, match=r"(?s)tried: .*python3\.8.*uv python install 3\.8.*make tf22"):
        tf22_environment.find_python38()


def test_make_repairs_a_half_made_environment_once(bare, tmp_path):
    environment, log = tmp_path / "environment", tmp_path / "log"
    answers = f'case "$*" in *ensurepip*) echo 3.8;; *"-m pip"*) echo "$@" >> {log};; *tensorflow*) echo 2.2.0;; esac'
    python = script(environment / "bin" / "python", answers)
    assert tf22_environment.make(environment) == python
    assert "tensorflow-cpu" in log.read_text() and str(tf22_environment.CONSTRAINTS) in log.read_text()
    assert json.loads((environment / tf22_environment.STAMP).read_text())["tensorflow"] == "2.2.0"
    tf22_environment.make(environment)
    assert len(log.read_text().splitlines()) == 1, "a complete environment must not be installed again"
    (environment / tf22_environment.STAMP).write_text('{"constraints_sha256": "of other constraints"}')
    tf22_environment.make(environment)
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.parametrize(("pip", "imported", "message"), [("exit 1", "2.2.0", "pip could not"), ("", "2.3.0", "2.3.0")])
def test_a_failed_installation_leaves_no_stamp(pip, imported, message, bare, tmp_path):
    answers = f'case "$*" in *ensurepip*) echo 3.8;; *"-m pip"*) {pip or ":"};; *tensorflow*) echo {imported};; esac'
    script(tmp_path / "environment" / "bin" / "python", answers)
    with pytest.raises(MissingToolError, match=message):
        tf22_environment.make(tmp_path / "environment")
    assert not (tmp_path / "environment" / tf22_environment.STAMP).exists()
