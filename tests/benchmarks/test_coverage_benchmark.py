"""The coverage benchmark: its measure, its table, its limits, and two tiny networks from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage_families import FAMILIES, NETWORKS, Network
from benchmarks.coverage_networks import IMAGES, MODEL, write_network
from benchmarks.coverage_process import CURRENT, ONNX2TF, OURS, TF22, relative_error
from export import tf22
from zoo.errors import ExportError


def found(current: float | None = None, tf: float | None = None, **failed: str) -> dict:
    """An invented row of one converter."""
    return {"seconds": 12.3, "errors": {CURRENT: current, TF22: tf}, "failed": failed}


@pytest.fixture
def rows() -> list[dict]:
    """Two families and one network that is no family."""
    of = {"member": "net", "size": 96}
    return [
        of | {"family": "ResNet", OURS: found(1e-6, 2e-6), ONNX2TF: found(3e-7, None, **{TF22: "no kernel"})},
        of | {"family": "VGG", OURS: found(2e-6, 2e-5), ONNX2TF: found(conversion="crash at 'a'")},
        of | {"family": "ResNet (dynamo)", OURS: found(1e-6, 1e-6), ONNX2TF: found(conversion="crash at 'b'")},
    ]


def test_an_error_is_relative_to_the_largest_entry_and_independent_of_the_scale() -> None:
    expected = np.array([[3.0, 4.0]], np.float32)
    assert relative_error(expected, 7 * expected) == pytest.approx(0, abs=1e-7)
    assert relative_error(expected, np.array([[3.0, -4.0]], np.float32)) == pytest.approx(2)


@pytest.mark.parametrize("wrong", [np.ones((1, 3), np.float32), np.array([[np.nan, 1]], np.float32)])
def test_another_shape_or_nan_is_no_error_but_a_failure(wrong: np.ndarray) -> None:
    with pytest.raises(ExportError):
        relative_error(np.ones((1, 2), np.float32), wrong)


def test_the_table_counts_families_within_the_limit_only(rows: list[dict]) -> None:
    lines = coverage.table(rows).splitlines()
    assert [cell.strip() for cell in lines[-1].split("|")[4:10]] == [
        "**2 of 2**",
        "**1 of 2**",
        "",
        "**1 of 2**",
        "**0 of 2**",
        "",
    ]
    assert "**2e-05**" in lines[3]
    assert "fails" in lines[3]


def test_what_was_not_measured_is_not_counted(rows: list[dict]) -> None:
    del rows[1][ONNX2TF]
    lines = coverage.table(rows).splitlines()
    assert lines[3].endswith("| – | – | – |")
    assert lines[-1].endswith("| **1 of 1** | **0 of 1** |  |")
    assert len(coverage.failures(rows).splitlines()) == 2


def test_failures_are_listed_once_per_reason(rows: list[dict]) -> None:
    assert coverage.failures(rows).splitlines() == [
        "- onnx2tf, TensorFlow 2.2: `no kernel` (ResNet)",
        "- onnx2tf, conversion: `crash at 'a'` (VGG, ResNet (dynamo))",
    ]


def test_a_step_that_takes_too_long_is_a_reason_and_no_end(tmp_path: Path) -> None:
    options = ("--family", "ResNet", "--size", 64, "--out", tmp_path / "network")
    assert coverage._step("coverage_networks", 1, *options) == "longer than 1 s"


def test_a_step_that_fails_is_a_reason(tmp_path: Path) -> None:
    options = ("--network", tmp_path, "--size", 64, "--converter", "neither", "--out", tmp_path / "row.json")
    assert "invalid choice" in str(coverage._step("coverage_process", 60, *options))


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch) -> None:
    steps = []

    def step(module: str, limit: int, *options) -> str | None:
        steps.append(module)
        given = dict(zip(options[::2], options[1::2], strict=True))
        if module == "coverage_networks":
            given["--out"].mkdir(parents=True)
            (given["--out"] / MODEL).write_bytes(b"onnx")
            return None
        if given["--converter"] == OURS:
            return "killed"
        given["--out"].write_text(json.dumps(found(1e-6, 1e-6)), encoding="utf-8")
        return None

    monkeypatch.setattr(coverage, "_step", step)
    first = coverage.measure("ResNet", Network("resnet18"), tmp_path, 60)
    assert first[OURS]["failed"] == {"conversion": "killed"}
    assert coverage.measure("ResNet", Network("resnet18"), tmp_path, 60) == first
    assert len(steps) == 4  # a step that was ended may have more time now
    coverage.measure("ResNet", Network("resnet18", 64), tmp_path, 60)
    assert len(steps) == 7  # another size is another network


def test_at_least_sixty_families() -> None:
    assert len(FAMILIES) >= 60
    assert len({network.member for network in FAMILIES.values()}) == len(FAMILIES)


def test_networks_are_precise_and_no_block_is_switched_off(tmp_path: Path) -> None:
    """Descriptors of different pictures differ, and ONNX Runtime agrees with float64."""
    pytest.importorskip("timm")
    import onnx

    write_network(replace(NETWORKS["ResNet"], member="test_resnet", size=64), tmp_path)
    with np.load(tmp_path / IMAGES, allow_pickle=False) as arrays:
        exact, expected = arrays["exact"], arrays["expected"]
    assert relative_error(exact, expected) < 1e-5
    assert relative_error(exact[1:2], exact[:1]) > 0.01
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / MODEL).graph.initializer]
    assert all(np.abs(weight).max() > 0.01 for weight in weights if weight.ndim == 4)


@pytest.mark.skipif(tf22.find_python() is None, reason="TensorFlow 2.2 is not installed")
@pytest.mark.parametrize("family", ["LCNet", "MobileNetV4"])
def test_a_tiny_network_from_end_to_end(family: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    row = coverage.measure(family, replace(NETWORKS[family], size=64), tmp_path, 300, [OURS])
    assert coverage.converted(row, OURS, CURRENT), row
    assert coverage.converted(row, OURS, TF22), row
