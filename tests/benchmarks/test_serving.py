"""The serving benchmark: its arithmetic, its tables and its workers' protocol. No times are measured here."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rivals import Environment
from benchmarks.serving_process import Worker
from benchmarks.serving_tables import TARGETS, TF22, TODAY, kept_rows, photos_table, table, target_ratios


def row(peer: str, where: str, form: str, error: str | None = None, **ms: float) -> dict:
    """An invented row; the median is a tenth above the best."""
    cases = {case.removeprefix("b"): {"best": best, "median": 1.1 * best} for case, best in ms.items()}
    versions = {"tensorflow": "2.2.0" if where == TF22 else "2.19.1"} if "tf" in where.split() else {"torch": "2.13.0"}
    return {
        "peer": peer,
        "where": where,
        "form": form,
        "versions": versions,
        "error": error,
        "max_abs": 1e-7,
        "ms": cases,
    }


@pytest.fixture
def results() -> dict:
    """Two networks and a few peers."""
    resnet = [
        row("ours", TODAY, "embed_resized", b1=30, b8=240),
        row("ours", TF22, "embed_resized", b1=45, b8=300),
        row("ours", TF22, "serving_default", photo=100),
        row("keras.applications", TODAY, "tf.function", b1=60, b8=500),
        row("keras.applications", TODAY, "frozen", b1=50, b8=300),
        row("keras.applications", TF22, "frozen", b1=50, b8=400),
    ]
    resnest = [
        row("ours", TODAY, "embed_resized", b1=60, b8=300),
        row("onnx2tf only", TF22, "as exported", error="no such | operator"),
        row("PyTorch", "PyTorch", "eager", b1=80, b8=380),
        row("PyTorch", "PyTorch", "fused", b1=50, b8=310),
    ]
    return {"photo": [600, 800], "models": {"resnet50": resnet, "resnest50": resnest}}


def test_a_target_counts_the_peers_fastest_form_and_its_own_tensorflow(results: dict) -> None:
    today, tf22 = (target for target in TARGETS if target.peer == "keras.applications")
    assert target_ratios(today, results["models"]["resnet50"]) == pytest.approx({"1": 30 / 50, "8": 240 / 300})
    assert target_ratios(tf22, results["models"]["resnet50"]) == pytest.approx({"1": 45 / 50, "8": 300 / 400})


def test_a_target_that_names_a_form_counts_that_one(results: dict) -> None:
    eager = next(target for target in TARGETS if target.form == "eager")
    assert target_ratios(eager, results["models"]["resnest50"]) == pytest.approx({"1": 60 / 80, "8": 300 / 380})


def test_a_peer_without_times_has_no_ratio(results: dict) -> None:
    nobuco = next(target for target in TARGETS if target.peer == "nobuco")
    assert target_ratios(nobuco, results["models"]["resnest50"]) == {}
    assert "| nobuco in tf 2.15 | 0.45 | – | – |" in table(results)


def test_the_tables_say_met_missed_and_why_there_is_no_time(results: dict) -> None:
    found = table(results)
    assert "| resnet50 | current tf | keras.applications in current tf | 0.60 | 0.60 met | 0.80 **missed** |" in found
    assert "| resnet50 | keras.applications, frozen | TensorFlow 2.19.1 | 50 (55) | 300 (330) |  |" in found
    assert r"| resnest50 | onnx2tf only | TensorFlow 2.2.0 | – | – | no such \| operator |" in found


def test_runtimes_keep_each_form_and_networks_their_fastest(results: dict) -> None:
    kept = [(row["peer"], row["where"], row["form"]) for rows in results["models"].values() for row in kept_rows(rows)]
    assert ("keras.applications", TODAY, "frozen") in kept
    assert ("keras.applications", TODAY, "tf.function") not in kept
    assert {form for peer, _, form in kept if peer == "PyTorch"} == {"eager", "fused"}


def test_the_contests_hours_come_from_the_median(results: dict) -> None:
    assert "| resnet50 | TensorFlow 2.2.0 | 9.1 | 26.9 |" in photos_table(results)


def test_a_worker_answers_refuses_and_is_stopped_between_its_turns(
    tiny_saved_models, tiny_descriptor, tmp_path
) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "inputs.npz", photo=photo, wrong=photo.astype(np.float32))
    forms = {
        "good": [str(tiny_saved_models / "good"), "serving_default"],
        "missing": [str(tmp_path), "serving_default"],
    }
    job = {"kind": "saved_model", "forms": forms, "inputs": str(tmp_path / "inputs.npz"), "threads": 1}
    worker = Worker(Environment(Path(sys.executable)), ("benchmarks/serving_worker.py",), job, tmp_path / "log")
    try:
        assert worker.error is None
        assert worker.forms["good"] is None
        assert "SavedModel file does not exist" in worker.forms["missing"]
        answer = worker.ask(form="good", array="photo", rows=None, times=2)
        assert len(answer["seconds"]) == 2
        np.testing.assert_allclose(answer["output"], tiny_descriptor(photo), rtol=0, atol=1e-5)
        assert "error" in worker.ask(form="good", array="wrong", rows=None, times=1)
        state = Path(f"/proc/{worker.pid}/stat")
        if state.exists():
            assert state.read_text().rpartition(") ")[2][0] == "T"
    finally:
        worker.close()


def test_a_worker_that_dies_leaves_its_last_words(tmp_path) -> None:
    (tmp_path / "dies.py").write_text("import sys; sys.exit('no kernel for it')")
    worker = Worker(Environment(Path(sys.executable)), (str(tmp_path / "dies.py"),), {}, tmp_path / "log")
    worker.close()
    assert worker.error == "ended with status 1: no kernel for it"
