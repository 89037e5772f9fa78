"""A GPU computes what a CPU does, in every precision, compiled and with two processes; skipped where PyTorch sees no GPU.

No test of Paddle on a GPU: its GPU builds could not be had where this was developed.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.launchers import launched
from tests.training.several_processes import BATCH, CLASSES, RECIPE, SIZE
from tests.training.tiny_data import write_tiny_data
from training.execution import Execution
from training.history import read_history
from training.schedule import Schedule
from zoo.weights import initial_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("several_processes.py")
DOUBLE = 5e-6
"""Largest difference of a loss in float64; measured: 1.0e-6. The images are normalised in float32 first, where a GPU multiplies by
1 / 255 instead of dividing."""
SINGLE, HALF = 1e-2, 0.1
"""Largest difference of the first of ten losses in float32, and in bfloat16 or float16; losses are about 5. Measured: 2.5e-3, because
PyTorch's convolutions round their inputs to TF32 on GPUs."""
PATH = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def losses(execution: Execution, kind: torch.dtype = torch.float32, steps: int = 10, **change) -> np.ndarray:
    from torch_models.train import Trainer

    recipe = replace(RECIPE, **change)
    spec = recipe.spec(recipe.models[0])
    torch.set_default_dtype(kind)
    try:
        weights = initial_weights(spec, [9, 3, 5, 8, 4, 4, 7], seed=1)
        trainer = Trainer(spec, CLASSES, recipe, weights, execution)
        schedule, measured = Schedule(recipe, 10), []
        for number in range(steps):
            random = np.random.default_rng(number)
            images = random.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
            measured.append(trainer.step(images, random.integers(0, CLASSES, BATCH), schedule[number]))
        return trainer.read(measured)[:, 0]
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("model", ["resnet10_narrow", "resnest14_narrow"])
def test_in_float64_it_is_the_cpu(model):
    change = {"models": [model], "accumulation": 2, "negatives": 0.5, "average": 0.875}
    found = [losses(Execution(device), torch.float64, **change) for device in ("cpu", "cuda:0")]
    assert np.abs(found[0] - found[1]).max() <= DOUBLE


@pytest.mark.parametrize(
    ("execution", "bound"),
    [
        (Execution("cuda:0"), SINGLE),
        (Execution("cuda:0", channels_last=False), SINGLE),
        (Execution("cuda:0", compile=True), SINGLE),
        (Execution("cuda:0", "bfloat16"), HALF),
        (Execution("cuda:0", "float16"), HALF),
        (Execution("cuda:0", "bfloat16", compile=True), HALF),
    ],
    ids=str,
)
def test_every_way_of_computing_starts_from_the_same_loss_and_learns(execution, bound):
    expected, found = losses(Execution()), losses(execution)
    assert abs(found[0] - expected[0]) <= bound
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("kind", "bound"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)], ids=["float64", "float32"]
)
def test_adamw_starts_as_on_the_cpu(kind, bound):
    """AdamW's first update is the sign of the gradient, which rounding turns where the gradient is small: later losses drift apart."""
    change = {"optimiser": "adamw", "frozen": ("backbone",)}
    found = [losses(Execution(device), kind, **change) for device in ("cpu", "cuda:0")]
    assert abs(found[0][0] - found[1][0]) <= bound
    assert np.isfinite(found[1]).all()


def test_a_float16_overflow_skips_the_step_and_lowers_the_scale():
    from torch_models.train import Trainer

    spec = RECIPE.spec("resnet10_narrow")
    trainer = Trainer(spec, CLASSES, RECIPE, initial_weights(spec, [9] * CLASSES, 1), Execution("cuda:0", "float16"))
    trainer.scale[0] = 2.0**40
    before = trainer.tensors()
    images, labels = np.zeros((BATCH, SIZE, SIZE, 3), np.uint8) + 99, np.arange(BATCH) % CLASSES
    images[::2] += 50
    trainer.step(images, labels, Schedule(RECIPE, 10)[0])
    after = trainer.tensors()
    assert trainer.numbers()["loss scale"] == 2.0**39
    assert all(
        np.array_equal(before[n], v) for n, v in after.items() if not n.endswith(("running_mean", "running_var"))
    )


def test_two_processes_on_one_gpu_compute_what_one_does(tmp_path):
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        words = [str(WORKER), "torch", str(folder), "6", "false", "cuda:0"]
        environment = os.environ | PATH
        done = subprocess.run(
            launched("torch", processes, folder, words),
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[processes] = {path.stem: np.load(path)["measured"] for path in folder.glob("*-0.npz")}
    for name, measured in found[1].items():
        assert np.abs(found[2][name] - measured).max() <= DOUBLE, name


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_command_trains_and_resumes(precision, tmp_path):
    recipe = """
models: [resnet10_narrow]
batch_size: 8
average: 0.9
validation: {classes: 0.3}
stages:
  - {epochs: 4, resolution: 32, margin: 0.1, learning_rate: 0.02}
"""
    data, out = write_tiny_data(tmp_path / "data", recipe, landmarks=7, images=8), tmp_path / "a.safetensors"
    words = [
        "--recipe",
        data / "recipe.yaml",
        "--data",
        data,
        "--out",
        out,
        "--device",
        "cuda",
        "--precision",
        precision,
    ]
    command = launched("torch", 1, tmp_path, [str(ROOT / "torch_models" / "train.py"), *map(str, words)])
    done = subprocess.run(command, env=os.environ | PATH, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(read_history(out)) == 4 * 5
