"""The loops that our training is compared with: they make the same steps from the same weights, so the times are comparable."""

import numpy as np
import pytest

from benchmarks.training import AS_INSTALLED, sides, speed, table
from benchmarks.training_side import CLIPPED, HALF, OURS, PLAIN, Setting, side

STEPS = 3
SETTING = Setting("resnet18", batch=6, size=64, classes=5)


def losses(name: str, framework: str, setting: Setting) -> np.ndarray:
    step = side(name, framework, setting)
    return np.array([step(*batch) for batch in setting.batches()[:STEPS]])


@pytest.mark.parametrize(
    ("framework", "model"), [("torch", "resnet18"), ("torch", "resnest14"), ("paddle", "resnet18")]
)
def test_a_plain_loop_makes_our_steps(framework, model):
    setting = Setting(model, SETTING.batch, SETTING.size, SETTING.classes)
    ours, clipped, plain = (losses(name, framework, setting) for name in (OURS, CLIPPED, PLAIN))
    assert clipped[0] == pytest.approx(ours[0], abs=1e-4)
    assert plain[0] == pytest.approx(ours[0], abs=1e-4)
    # Float32 takes the two apart by some thousandths; a loop without the clip is off by more than ten times as much.
    assert np.abs(clipped - ours).max() < 0.02
    assert np.abs(plain - ours).max() > 0.2


def test_every_side_that_has_a_peer_takes_part():
    names = {(side.framework, side.name) for side in sides("resnet50", 2)}
    own = {("torch", OURS), ("torch", HALF), ("paddle", OURS), ("paddle", AS_INSTALLED)}
    assert names == own | {(f, n) for f in ("torch", "paddle") for n in (PLAIN, CLIPPED)}
    assert ("paddle", PLAIN) not in {(side.framework, side.name) for side in sides("resnest14", 2)}


def test_a_speed_compares_turns_of_the_same_load():
    ours, theirs = {"turns_ms": [10.0, 40.0, 11.0]}, {"turns_ms": [20.0, 80.0, 5.0]}
    assert speed(ours, theirs) == 2


def test_the_table_says_how_many_times_as_fast_ours_is():
    def row(framework: str, name: str, ms: float) -> dict:
        return {"framework": framework, "side": name, "best_ms": ms, "median_ms": ms, "turns_ms": [ms]}

    rows = [row("torch", OURS, 10), row("torch", PLAIN, 11), row("torch", CLIPPED, 12), row("torch", HALF, 5)]
    rows += [
        row("paddle", OURS, 20),
        row("paddle", PLAIN, 10),
        row("paddle", CLIPPED, 10),
        row("paddle", AS_INSTALLED, 60),
    ]
    lines = table({"models": [{"model": "resnet18", "batch": 6, "size": 64, "sides": rows}]}).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")][4:-1] == [
        *("10 (10)", "11 (11)", "1.10×", "1.20×", "–", "2.00×", "–"),
    ]
    assert [cell.strip() for cell in lines[3].split("|")][4:-1] == [
        *("20 (20)", "10 (10)", "0.50×", "0.50×", "0.50×", "–", "0.33×"),
    ]
