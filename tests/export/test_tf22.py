"""The environment of TensorFlow 2.2.0 and calls in it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from export import tensorflows, tf22
from export.checker.registry import versions
from export.tensorflows import WHEELS, full_version
from export.tf22 import environment as tf22_environment
from export.tf22 import runner
from zoo.errors import ExportError, MissingToolError
from zoo.signature import BATCH_SIGNATURE


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


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
    with pytest.raises(ExportError, match="(?s)SIGABRT.*Check failed: shape"):
        tf22.run_calls([], python=python)


def test_the_variable_comes_first_and_must_run(monkeypatch, tmp_path):
    python = script(tmp_path / "python", "")
    monkeypatch.setenv(tf22.PYTHON_VARIABLE, str(python))
    assert tf22.require_python() == python
    monkeypatch.setenv(tf22.PYTHON_VARIABLE, str(tmp_path / "missing"))
    for find in (tf22.find_python, tf22.require_python):
        with pytest.raises(MissingToolError, match=f"{tf22.PYTHON_VARIABLE} names .*missing"):
            find()


def test_a_half_made_environment_is_not_found(monkeypatch, tmp_path):
    monkeypatch.delenv(tf22.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(tf22_environment, "ENVIRONMENT", tmp_path)
    python = script(tmp_path / "bin" / "python", "echo 2.2.0")
    with pytest.raises(MissingToolError, match="make tf22"):
        tf22.require_python()
    (tmp_path / tf22_environment.STAMP).write_text("{}")
    assert tf22.find_python() == python


def answers(environment: Path, imported: str) -> Path:
    """A python in `environment` that imports TensorFlow `imported`."""
    return script(environment / "bin" / "python", f'case "$*" in *tensorflow*) echo {imported};; esac')


def test_make_repairs_an_incomplete_environment_once(monkeypatch, tmp_path):
    made = []

    def make_environment(folder: Path, version: str, requirements: list) -> Path:
        made.append((version, requirements))
        return answers(folder, "2.2.0")

    monkeypatch.setattr(tf22_environment, "make_environment", make_environment)
    stamp = tmp_path / tf22_environment.STAMP
    python = answers(tmp_path, "2.2.0")
    assert tf22_environment.make(environment=tmp_path) == python
    assert made == [("3.8", ["-r", tf22_environment.CONSTRAINTS])]
    assert stamp.is_file()
    tf22_environment.make(environment=tmp_path)
    assert len(made) == 1, "a complete environment must not be made again"
    stamp.write_text('{"constraints_sha256": "of other constraints"}')
    tf22_environment.make(environment=tmp_path)
    assert len(made) == 2


def test_an_environment_with_another_tensorflow_gets_no_stamp(monkeypatch, tmp_path):
    monkeypatch.setattr(tf22_environment, "make_environment", lambda folder, *_: answers(folder, "2.3.0"))
    (tmp_path / tf22_environment.STAMP).write_text("{}")
    with pytest.raises(MissingToolError, match=r"found 2\.3\.0.*make tf22"):
        tf22_environment.make(environment=tmp_path)
    assert not (tmp_path / tf22_environment.STAMP).exists()


def test_a_failed_installation_names_the_command(monkeypatch, tmp_path):
    def fail(*_: object) -> Path:
        raise MissingToolError("pip failed.")

    monkeypatch.setattr(tf22_environment, "make_environment", fail)
    with pytest.raises(MissingToolError, match=r"pip failed\. .*make tf22"):
        tf22_environment.make(environment=tmp_path)


def test_another_version_has_an_environment_of_its_own(monkeypatch, tmp_path):
    made = []

    def make_environment(folder: Path, version: str, requirements: list) -> Path:
        made.append((folder, version, requirements))
        return answers(folder, "2.13.0")

    monkeypatch.setattr(tf22_environment, "make_environment", make_environment)
    monkeypatch.setenv(tf22_environment.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(runner, "_own_version", lambda: "2.19.1")
    monkeypatch.setattr(tensorflows, "find_python", lambda version: Path("python") if version == "3.9" else None)
    with pytest.raises(MissingToolError, match=r"2\.13\.0.*python -m export\.tf22\.environment --tf 2\.13\.0"):
        tf22.require_python("2.13.0")
    python = tf22_environment.make(full_version("2.13"))
    assert made == [(tmp_path / "2.13.0", "3.9", ["tensorflow-cpu==2.13.0", "numpy<2", "pillow"])]
    assert tf22.require_python("2.13.0") == tf22_environment.make("2.13.0") == python
    assert len(made) == 1


def test_the_tensorflow_of_this_python_needs_no_environment(monkeypatch):
    monkeypatch.setattr(runner, "_own_version", lambda: "2.19.1")
    assert tf22.find_python("2.19.1") == Path(sys.executable)


def test_a_version_is_completed():
    assert (full_version("2.2"), full_version("2.1"), full_version("2.19")) == ("2.2.0", "2.1.0", "2.19.1")
    assert [full_version(version) for version in WHEELS] == list(WHEELS)
    for wrong in ("2", "2.", "2.1x", "2.13.1", "2.99.0", "a.b.c", "3.0", ""):
        with pytest.raises(
            ExportError, match=r"expected one of 2\.0\.0, 2\.1\.0, .* or the first two numbers of one\."
        ):
            full_version(wrong)


def test_each_version_has_a_registry():
    assert list(WHEELS) == versions()
