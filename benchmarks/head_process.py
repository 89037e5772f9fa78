"""One process of `benchmarks.head`: steps of the class-divided ArcMargin, and what they cost in memory and exchange.

Its argument is a `benchmarks.head.Job` as JSON. A launcher starts as many of it as there are processes; each writes
<folder>/<rank>.json.
"""

import importlib
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # Paddle's launcher runs it as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from training.classes import drawn_classes, own_classes
from training.recipes import Recipe, Stage
from zoo.weights import LOSS_PREFIX

_MARGIN, _RATE = 0.3, 0.01


def counted(group: Any, exchanged: list[int]) -> Any:
    """The same group, which appends the size in bytes of every tensor that it gathers or sums over the processes."""

    class Counted(type(group)):
        def gathered(self, rows: Any) -> Any:
            return note(super().gathered(rows))

        def _reduced(self, values: Any, how: Any) -> Any:
            return note(super()._reduced(values, how))

    def note(values: Any) -> Any:
        if group.size > 1:
            exchanged.append(math.prod(values.shape) * values.element_size())
        return values

    return Counted(group.rank, group.size)


class _Torch:
    """What the measurement needs of PyTorch on a device."""

    def __init__(self, device: str) -> None:
        import torch

        self.torch, rank = torch, int(os.environ.get("LOCAL_RANK", "0"))
        gpus = torch.cuda.device_count() if device == "cuda" else 0
        self.device = torch.device("cuda", rank % gpus) if gpus else torch.device("cpu")
        # NCCL takes one process per GPU; more of them exchange over gloo.
        self.exchange = "cuda" if gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1")) else "cpu"
        if gpus:
            torch.cuda.set_device(self.device)

    def tensor(self, values: np.ndarray, trained: bool = False) -> Any:
        return self.torch.from_numpy(values).to(self.device).requires_grad_(trained)

    def place(self, layer: Any) -> Any:
        return layer.to(self.device)

    def peak(self) -> int:
        """Bytes of the GPU, or of the whole process on a CPU."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
            return self.torch.cuda.max_memory_allocated()
        return _peak()


class _Paddle:
    """The same of Paddle on CPUs."""

    exchange = "cpu"

    def __init__(self, device: str) -> None:
        import paddle

        paddle.set_device(device.replace("cuda", "gpu"))
        self.paddle = paddle

    def tensor(self, values: np.ndarray, trained: bool = False) -> Any:
        return self.paddle.to_tensor(values, stop_gradient=not trained)

    def place(self, layer: Any) -> Any:
        return layer

    def peak(self) -> int:
        return _peak()


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """{"rank", "before", "peak" (bytes), "exchanged" (bytes of a step), "seconds", "losses" (of each step)}."""
    framework = job["framework"]
    modules = {
        n: importlib.import_module(f"{framework}_models.{n}") for n in ("distributed", "arc_margin", "optimiser")
    }
    here = {"torch": _Torch, "paddle": _Paddle}[framework](job["device"])
    joined = modules["distributed"].join(here.exchange)
    exchanged: list[int] = []
    group = counted(joined, exchanged)
    before = here.peak()
    own = own_classes(job["classes"], group.rank, group.size)
    margin = here.place(modules["arc_margin"].ArcMargin(own, job["embedding"], 30.0, group=group))
    recipe = Recipe(models=["resnet18"], stages=[Stage(1, 224, _MARGIN, _RATE)], batch_size=job["batch"])
    optimiser = modules["optimiser"].Optimiser({f"{LOSS_PREFIX}weight": margin.weight}, recipe)
    seconds, losses = [], []
    for step in range(job["steps"]):
        random = np.random.default_rng(step)
        descriptors = np.array_split(
            random.normal(size=(job["batch"], job["embedding"])).astype(np.float32), group.size
        )
        labels = np.array_split(random.integers(0, job["classes"], job["batch"]), group.size)
        own_part = here.tensor(descriptors[group.rank], trained=True)
        exchanged.clear()
        start = time.perf_counter()
        every = group.gathered(here.tensor(labels[group.rank]))
        drawn = None
        if job["negatives"] is not None:
            drawn = here.tensor(drawn_classes(own, every.cpu().numpy(), job["negatives"], 0, step))
        gathered = modules["distributed"].gather_descriptors(own_part, group)
        logits = margin(gathered, every, _MARGIN, drawn)
        loss, _ = modules["distributed"].cross_entropy(logits, group)
        loss.backward()
        group.total(modules["distributed"].sums_of_squares([margin.weight.grad]))
        optimiser.step(_RATE)
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - start)
    figures = {"rank": group.rank, "before": before, "peak": here.peak(), "exchanged": sum(exchanged)}
    group.leave()
    return figures | {"seconds": seconds, "losses": losses}


def main() -> None:
    """Measures the job of the first argument."""
    job = json.loads(sys.argv[1])
    figures = measure(job)
    Path(job["folder"], f"{figures['rank']}.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
