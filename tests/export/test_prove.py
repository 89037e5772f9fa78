"""The comparison of the checker with real TensorFlows, with scripts in the place of TensorFlows; and with one if it is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export import check
from export.checker import prove
from export.checker.finding import Finding
from export.tensorflows import WHEELS
from export.tf22 import environment
from zoo.errors import ExportError, MissingToolError


def python(path: Path, script: str, version: str = "2.4.0") -> Path:
    """A Python 3.8 whose worker is a shell script; $3 is the file of verdicts, $4 the way to call, and $5 the limit in seconds."""
    path.write_text(f"#!/bin/sh\necho loaded {version} 3.8\nout=$3; shift 5\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def models(tmp_path) -> list[prove.Model]:
    folders = [tmp_path / "models" / name for name in ("good", "bad", "last")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
    return [prove.Model(folder, contest=True) for folder in folders]


@pytest.fixture
def verdicts(monkeypatch) -> dict[str, list[Finding]]:
    """What the checker finds, by model."""
    found: dict[str, list[Finding]] = {}
    monkeypatch.setattr(
        prove, "check", lambda folder, *_, **__: check.Report("2.13.0", found.get(folder.name, []), 0, {})
    )
    return found


def test_a_model_that_ends_the_process_is_one_verdict(models, tmp_path):
    ends = python(
        tmp_path / "python", 'for m in "$@"; do case $m in *bad) kill -9 $$;; *) echo ran >> "$out";; esac; done'
    )
    found = prove.real_verdicts([m.folder for m in models], ends, True, tmp_path, onednn=False)
    good, bad, last = found.said.values()
    assert (good, last) == ("ran", "ran") and bad.startswith("the process ended (SIGKILL")
    assert (found.tensorflow, found.python) == ("2.4.0", "3.8")


FAKE = """
import runpy, sys, time, unittest.mock
tensorflow = sys.modules["tensorflow"] = unittest.mock.MagicMock(__version__="2.4.0")
tensorflow.saved_model.load.side_effect = lambda folder: time.sleep(60)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_model_that_does_not_end_is_ended(models, tmp_path):
    """The worker itself, with a TensorFlow that never finishes loading."""
    (tmp_path / "fake.py").write_text(FAKE, encoding="utf-8")
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\nshift 2\nexec {sys.executable} - {prove.WORKER} "$@" < {tmp_path}/fake.py\n', encoding="utf-8"
    )
    fake.chmod(0o755)
    found = prove.real_verdicts([models[0].folder], fake, True, tmp_path, onednn=False, seconds=2)
    assert list(found.said.values()) == ["the process ended (took longer than 2 s)"]


def test_a_tensorflow_that_does_not_start_is_no_verdict(models, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named tensorflow >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(MissingToolError, match="expected a TensorFlow that runs, found: no module named tensorflow"):
        prove.real_verdicts([m.folder for m in models], broken, True, tmp_path, onednn=False)


def test_another_tensorflow_than_expected_is_no_proof(models, tmp_path):
    other = python(tmp_path / "python", 'for m in "$@"; do echo ran >> "$out"; done', version="2.19.1")
    with pytest.raises(MissingToolError, match=r"expected TensorFlow 2\.4\.0, found 2\.19\.1"):
        prove.prove("2.4.0", other, models, tmp_path)


def test_an_unknown_version_is_told_before_anything_is_installed(models, tmp_path, monkeypatch):
    monkeypatch.setattr(prove.environment, "make", lambda version: pytest.fail("it was installed"))
    with pytest.raises(ExportError, match=r"TensorFlow 2\.99\.0: expected one of 2\.0\.0, "):
        prove.prove_all(["2.99.0"], tmp_path / "models")


def test_every_disagreement_is_told(models, verdicts, tmp_path):
    """Both kinds: what the checker accepts and TensorFlow refuses, and the other way round."""
    refuses = python(
        tmp_path / "python",
        'for m in "$@"; do case $m in *good) s=ran;; *) s="Error: no";; esac; echo $s >> "$out"; done',
    )
    verdicts["good"] = [Finding("is new", "Write it again")]
    verdicts["last"] = [Finding("is old", "Write it again")]
    [proof] = prove.prove("2.4.0", refuses, models, tmp_path)
    assert (proof.models, proof.ran, proof.onednn) == (3, 1, False)
    told = {one.model: (one.checker, one.tensorflow) for one in proof.disagreements}
    assert told == {"good": ("REJECTED: is new. Write it again", "ran"), "bad": ("accepted", "Error: no")}
    assert "| 2.4.0 | 3.8 | no | 3 | 1 | 1 |\n\n- 2.4.0, `good`: the checker says: REJECTED: is new." in prove.table(
        [proof]
    )


def test_a_warning_is_no_rejection(models, verdicts, tmp_path):
    runs = python(tmp_path / "python", 'for m in "$@"; do echo ran >> "$out"; done', version="2.13.0")
    verdicts["good"] = [Finding("may be meant", "See", rejects=False)]
    plain, fast = prove.prove("2.13.0", runs, models, tmp_path)
    assert not plain.disagreements and not fast.disagreements
    assert (plain.onednn, fast.onednn) == (False, True)


def test_onednn_is_chosen_for_the_process(models, verdicts, tmp_path):
    asked = python(tmp_path / "python", 'for m in "$@"; do echo "$TF_ENABLE_ONEDNN_OPTS" >> "$out"; done')
    for onednn in (False, True):
        found = prove.real_verdicts([m.folder for m in models], asked, True, tmp_path, onednn=onednn)
        assert set(found.said.values()) == {str(int(onednn))}


def test_a_folder_without_models_is_an_error(tmp_path):
    with pytest.raises(ExportError, match=r"expected folders with saved_model\.pb, found none"):
        prove.models_in(tmp_path)


def test_the_command_says_what_it_found(models, verdicts, tmp_path, monkeypatch, capsys):
    runs = python(tmp_path / "python", 'for m in "$@"; do echo ran >> "$out"; done')
    monkeypatch.setattr(prove.tf22, "find_python", lambda version: runs)
    monkeypatch.setattr(sys, "argv", ["prove", "--tf", "2.4", "--models", str(tmp_path / "models"), "--json"])
    with pytest.raises(SystemExit, match="False"):
        prove.main()
    [proof] = json.loads(capsys.readouterr().out)
    assert (proof["tensorflow"], proof["models"], proof["disagreements"]) == ("2.4.0", 3, [])
    verdicts["good"] = [Finding("is new", "Write it again")]
    with pytest.raises(SystemExit, match="True"):
        prove.main()


INSTALLED = [version for version in WHEELS if (environment.folder_of(version) / environment.STAMP).is_file()]


@pytest.mark.skipif(not INSTALLED, reason="needs an environment: python -m export.tf22.environment --tf 2.2")
def test_a_real_one_agrees(tiny_saved_models, tmp_path):
    version = INSTALLED[0]
    models = [prove.Model(tiny_saved_models / "good", contest=True)]
    for proof in prove.prove(version, environment.environment_python(environment.folder_of(version)), models, tmp_path):
        assert (proof.ran, proof.disagreements) == (1, [])


TAKES_STRINGS = """
import sys
import tensorflow as tf
class Served(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
    def serve(self, encoded):
        images = tf.map_fn(tf.io.decode_jpeg, encoded, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))
        return {"means": tf.reduce_mean(tf.cast(images, tf.float32), [1, 2]), "same": encoded}
served = Served()
tf.saved_model.save(served, sys.argv[1], {"serving_default": served.serve})
"""


def test_strings_are_given_encoded_images(tmp_path):
    """In this Python's TensorFlow; one of the results is a string as well."""
    subprocess.run([sys.executable, "-c", TAKES_STRINGS, tmp_path / "strings"], check=True, capture_output=True)
    found = prove.real_verdicts([tmp_path / "strings"], sys.executable, False, tmp_path, onednn=False)
    assert list(found.said.values()) == ["ran"]
