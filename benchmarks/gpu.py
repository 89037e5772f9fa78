"""Images per second and memory of training on a GPU, with PyTorch.

Example:
    python -m benchmarks.gpu --seconds 8

Each row trains on random images, which are copied to the GPU as in a real training, against the class weights of GLDv2-clean
(81,313 classes) unless it says otherwise. A plain loop with timm's network of the same name, the same precision, layout, optimiser
and head stands beside ours where timm is installed. Decoding is not part of it: `benchmarks.data` measures that. The last line of
stdout is the path of the JSON file.
"""

import argparse
import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_files import write_results
from training.execution import Execution, Precision
from training.recipes import Recipe, Stage
from training.schedule import Schedule
from zoo.command import log, run
from zoo.weights import LOSS_PREFIX, initial_weights

CLASSES = 81_313
WARM_UP = 5


@dataclass(frozen=True)
class Row:
    """A training to measure."""

    model: str
    batch: int
    side: int
    precision: Precision = "bfloat16"
    channels_last: bool = True
    compile: bool = False
    classes: int = CLASSES
    timm: str | None = None


ROWS = (
    Row("resnet50", 256, 224, "float32", timm="resnet50"),
    Row("resnet50", 256, 224, timm="resnet50"),
    Row("resnet50", 256, 224, "float16", timm="resnet50"),
    Row("resnest50", 128, 224, timm="resnest50d"),
    Row("resnest269", 64, 224, timm="resnest269e"),
    Row("resnest269", 16, 448),
    Row("res2net200_vd", 64, 224),
    Row("res2net200_vd", 16, 448),
    Row("resnet50", 256, 224, classes=203_094),
    Row("resnet50", 256, 224, "bfloat16", False, timm="resnet50"),
    Row("resnet50", 256, 224, compile=True),
)


def measure(row: Row, seconds: float) -> dict[str, Any]:
    """Images per second, and the largest memory of tensors on the GPU in GiB."""
    import torch

    from torch_models.train import Trainer

    recipe = Recipe([row.model], [Stage(1, row.side, 0.1, 0.01)], batch_size=row.batch)
    spec = recipe.spec(row.model)
    execution = Execution("cuda:0", row.precision, row.channels_last, row.compile)
    weights = initial_weights(spec, (), 0)
    shape = (row.classes, spec.embedding_size)
    weights[f"{LOSS_PREFIX}weight"] = np.random.default_rng(0).standard_normal(shape, np.float32) / shape[1] ** 0.5
    trainer = Trainer(spec, row.classes, recipe, weights, execution)
    schedule, batches = Schedule(recipe, 1_000_000), _batches(row)

    def step(number: int) -> None:
        trainer.step(*batches[number % len(batches)], schedule[number])

    found = _timed(step, row, seconds)
    return found | {"memory": torch.cuda.max_memory_allocated() / 2**30}


def measure_timm(row: Row, seconds: float) -> dict[str, Any]:
    """The same by a plain loop around timm's network, with ArcFace and the optimiser's fused kernel written out."""
    import timm
    import torch
    from torch.nn import functional

    kind = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[row.precision]
    torch.set_float32_matmul_precision("high" if kind else "highest")
    network = timm.create_model(row.timm or row.model, num_classes=512).cuda()
    network.to(memory_format=torch.channels_last if row.channels_last else torch.contiguous_format)
    weight = torch.nn.Parameter(torch.randn(row.classes, 512, device="cuda") / 512**0.5)
    parameters = [*network.parameters(), weight]
    optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
    scaler, batches = torch.amp.GradScaler(enabled=row.precision == "float16"), _batches(row)
    mean, std = (torch.tensor(values, device="cuda") for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def step(number: int) -> None:
        images, labels = (torch.from_numpy(value).pin_memory().cuda(non_blocking=True) for value in batches[number % 2])
        inputs = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        with torch.autocast("cuda", kind, enabled=kind is not None):
            features = network(inputs if row.channels_last else inputs.contiguous())
        cosine = functional.linear(functional.normalize(features.float()), functional.normalize(weight))
        right = cosine.gather(1, labels[:, None])
        moved = torch.cos(torch.acos(right.clamp(-1 + 1e-7, 1 - 1e-7)) + 0.1)
        loss = functional.cross_entropy(30 * cosine.scatter(1, labels[:, None], moved), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad()

    found = _timed(step, row, seconds)
    return found | {"memory": torch.cuda.max_memory_allocated() / 2**30}


def _batches(row: Row) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    shape = (row.batch, row.side, row.side, 3)
    return [
        (random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, row.classes, row.batch)) for _ in range(2)
    ]


def _timed(step: Any, row: Row, seconds: float) -> dict[str, Any]:
    import torch

    torch.cuda.reset_peak_memory_stats()
    for number in range(WARM_UP):
        step(number)
    torch.cuda.synchronize()
    start, number = time.perf_counter(), WARM_UP
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            step(number)
            number += 1
        torch.cuda.synchronize()
    return {"images_per_second": (number - WARM_UP) * row.batch / (time.perf_counter() - start)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement. Default: 8")
    parser.add_argument("--minutes", type=float, default=30.0, help="no row is begun after so many. Default: 30")
    parser.add_argument("--out", type=Path, help="JSON to write (default: benchmarks/results/gpu.json)")
    given = parser.parse_args()
    import torch

    try:
        import timm
    except ImportError:
        timm = None
    begun, rows = time.monotonic(), []
    made = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "timm": timm and timm.__version__}
    path = None
    for row in ROWS:
        if time.monotonic() - begun > 60 * given.minutes:
            log(f"{row} and what follows are left out: the time is up")
            break
        try:
            found = measure(row, given.seconds)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            log(f"{row}: {type(error).__name__}: {str(error)[:300]}")
            continue
        gc.collect()
        torch.cuda.empty_cache()
        if row.timm and timm:
            found |= {f"timm_{name}": value for name, value in measure_timm(row, given.seconds).items()}
            gc.collect()
            torch.cuda.empty_cache()
        rows.append(vars(row) | found)
        log(f"{row}: {found}")
        path = write_results("gpu", {**made, "rows": rows}, given.out)
    print(path)


if __name__ == "__main__":
    run(main)
