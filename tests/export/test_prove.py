"""The comparison of the checker with real TensorFlows, with scripts in the place of TensorFlows; and with one if it is there."""

import json
import sys
from pathlib import Path

import pytest

from export import check
from export.checker import prove
from export.checker.finding import Finding
from export.tensorflows import WHEELS
from export.tf22 import environment
from zoo.errors import ExportError, MissingToolError


def python(path: Path, script: str) -> Path:
    """A Python whose worker is a shell script; $3 is the file of verdicts, and $4 the way to call."""
    path.write_text(f"#!/bin/sh\necho loaded\nout=$3; shift 4\n{script}\n", encoding="utf-8")
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
    good, bad, last = found.values()
    assert (good, last) == ("ran", "ran") and bad.startswith("the process ended (SIGKILL")


def test_a_tensorflow_that_does_not_start_is_no_verdict(models, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named tensorflow >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(MissingToolError, match="expected a TensorFlow that runs, found: no module named tensorflow"):
        prove.real_verdicts([m.folder for m in models], broken, True, tmp_path, onednn=False)


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
    runs = python(tmp_path / "python", 'for m in "$@"; do echo ran >> "$out"; done')
    verdicts["good"] = [Finding("may be meant", "See", rejects=False)]
    plain, fast = prove.prove("2.13.0", runs, models, tmp_path)
    assert not plain.disagreements and not fast.disagreements
    assert (plain.onednn, fast.onednn) == (False, True)


def test_onednn_is_chosen_for_the_process(models, verdicts, tmp_path):
    asked = python(tmp_path / "python", 'for m in "$@"; do echo "$TF_ENABLE_ONEDNN_OPTS" >> "$out"; done')
    for onednn in (False, True):
        found = prove.real_verdicts([m.folder for m in models], asked, True, tmp_path, onednn=onednn)
        assert set(found.values()) == {str(int(onednn))}


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
