"""Training in PyTorch: one step on the margin loss, on any number of processes; `training.loop` does the rest."""

import contextlib
import ctypes
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torch_models.checkpoint import load_weights
from torch_models.distributed import (
    ALONE,
    Group,
    cross_entropy,
    gather_descriptors,
    join,
    sums_of_squares,
    synchronise_batch_norm,
)
from torch_models.embedder import Embedder
from torch_models.margins import build_margin
from torch_models.optimiser import MovingAverage, Optimiser
from training.classes import drawn_classes
from training.command import main
from training.execution import PLAIN, Execution
from training.recipes import Recipe
from training.schedule import Step
from zoo.command import run
from zoo.specs import ModelSpec, PreprocessSpec
from zoo.weights import LOSS_PREFIX

_FIRST_SCALE, _STEPS_TO_GROW = 2.0**16, 2000
"""Of the loss in float16, as in PyTorch's GradScaler: halved after an overflow, doubled after so many steps without one."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's `mallopt`, from malloc.h."""
_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """A model, its class weights and an optimiser (`training.loop.Trainer`).

    Args:
        spec: the model.
        classes: of all processes.
        recipe: the optimiser and what belongs to a step.
        weights: float arrays by canonical name; of the class weights, only this process's rows.
        execution: device, precision and layout.
        group: the processes.
    """

    framework = "torch"
    version = torch.__version__

    def __init__(
        self,
        spec: ModelSpec,
        classes: int,
        recipe: Recipe,
        weights: dict[str, np.ndarray],
        execution: Execution = PLAIN,
        group: Group = ALONE,
    ) -> None:
        self.spec, self.recipe, self.execution, self.group = spec, recipe, execution, group
        self.device = torch.device(execution.device)
        size, loss = spec.embedding_size, spec.loss
        self.model = Embedder(spec)
        self.margin = build_margin(loss, classes, size, recipe.scale, group)
        load_weights(nn.ModuleDict({"model": self.model, "arc_margin": self.margin}), _nested(weights))
        layout = torch.channels_last if execution.channels_last else torch.contiguous_format
        self.model.to(self.device, memory_format=layout)
        self.margin.to(self.device)
        _overwrite_before_relu(self.model)
        _keep_freed_memory()
        if execution.precision != "float32":
            torch.set_float32_matmul_precision("high")
        if recipe.batch_norm == "synchronised" and group.size > 1:
            synchronise_batch_norm(self.model, group)
        for name, value in self.model.named_parameters():
            value.requires_grad_(not recipe.freezes(name))
        named = {**dict(self.model.named_parameters()), **_prefixed(dict(self.margin.named_parameters()))}
        self.parameters = {name: value for name, value in named.items() if value.requires_grad}
        self.optimiser = Optimiser(self.parameters, recipe)
        self.average = MovingAverage(self._weights(), recipe.average) if recipe.average else None
        self.scale = torch.tensor([_FIRST_SCALE if execution.precision == "float16" else 1.0, 0.0], device=self.device)
        self._to_train()
        self.network: nn.Module = self.model
        self._distribute()
        if execution.compile:
            self.network = torch.compile(self.network)

    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> Tensor:
        """One step on this process's part of the batch: images uint8 [N, S, S, 3] and labels int64 [N].

        Returns:
            float32 [3] on the device, to be given to `read`: the loss and the accuracy (0 to 1) of the whole batch before the
            step, both with the margin applied, and the Euclidean norm of all gradients before clipping.
        """
        # Strided, so that a part of the whole batch is the same with any number of processes.
        parts = self.recipe.accumulation
        measured = []
        for number in range(parts):
            last = number == parts - 1
            wrapped = isinstance(self.network, DistributedDataParallel) and not last
            with self.network.no_sync() if wrapped else contextlib.nullcontext():
                loss, accuracy = self._losses(images[number::parts], labels[number::parts], step)
                (loss * (self.scale[0] / parts)).backward()
            measured.append(torch.stack([loss.detach(), accuracy]))
        norm, skip = self._clip()
        self.optimiser.step(step.learning_rate, skip)
        if self.average:
            self.average.update(self._weights().values(), self.optimiser.updates)
        return torch.cat([torch.stack(measured).mean(dim=0), norm.to(measured[0].dtype)])

    def read(self, measured: Sequence[Tensor]) -> np.ndarray:
        """float64 [N, 3] of what N steps returned; waits until the device has computed them."""
        return torch.stack(list(measured)).double().cpu().numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """Copies of everything that a resumed run needs, as `<kind>/<canonical name>`; of the class weights, this process's rows."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self._state().items()}

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""
        with torch.no_grad():
            for name, value in self._state().items():
                value.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))

    def numbers(self) -> dict[str, float]:
        """The state that is no tensor."""
        scale, good = self.scale.tolist()
        return {"updates": self.optimiser.updates, "loss scale": scale, "steps without overflow": good}

    def load_numbers(self, numbers: dict[str, float]) -> None:
        """Restores what `numbers` returned."""
        self.optimiser.restore(int(numbers["updates"]))
        self.scale.copy_(torch.tensor([numbers["loss scale"], numbers["steps without overflow"]]))

    def take_average(self) -> None:
        """Goes on from the moving average, with an optimiser that has forgotten all updates."""
        if self.average:
            with torch.no_grad():
                for value, average in zip(self._weights().values(), self.average.tensors.values(), strict=True):
                    value.copy_(average)
        self.optimiser.reset()

    @contextlib.contextmanager
    def shared_statistics(self) -> Iterator[dict[str, np.ndarray]]:
        """BatchNorm has the mean of all processes' running statistics for as long as the body runs.

        Every process must enter it. Yields the process's own ones, by the names of `tensors`; none if they are all the same.
        """
        if self.group.size == 1 or self.recipe.batch_norm == "synchronised":
            yield {}
            return
        own = self._statistics()
        before = {name: value.clone() for name, value in own.items()}
        with torch.no_grad():
            for value in own.values():
                value.copy_(self.group.total(value) / self.group.size)
        try:
            yield {name: value.cpu().numpy() for name, value in before.items()}
        finally:
            with torch.no_grad():
                for value, kept in zip(own.values(), before.values(), strict=True):
                    value.copy_(kept)

    @torch.no_grad()
    def embed(self, images: np.ndarray, averaged: bool = False) -> np.ndarray:
        """Descriptors float32 [N, D] of normalised images float32 [N, 3, S, S], by the weights or by their moving average."""
        with self._averaged() if averaged and self.average else contextlib.nullcontext():
            self.model.eval()
            try:
                inputs = torch.from_numpy(images).to(self.device)
                return self.model(inputs.to(next(self.model.parameters()).dtype)).float().cpu().numpy()
            finally:
                self._to_train()

    def _losses(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[Tensor, Tensor]:
        every = self.group.gathered(torch.from_numpy(np.ascontiguousarray(labels)))
        drawn = None
        if self.recipe.negatives is not None:
            chosen = drawn_classes(
                self.margin.classes, every.numpy(), self.recipe.negatives, self.recipe.seed, step.number
            )
            drawn = self._moved(torch.from_numpy(chosen))
        inputs = self._inputs(self._moved(torch.from_numpy(np.ascontiguousarray(images))))
        kind = _TYPES[self.execution.precision]
        with torch.autocast(self.device.type, kind, enabled=kind is not None):
            descriptors = self.network(inputs)
        descriptors = gather_descriptors(descriptors.to(self.margin.weight.dtype), self.group)
        logits = self.margin(descriptors, self._moved(every), step.margin, drawn)
        return cross_entropy(logits, self.group, self.recipe.label_smoothing)

    def _inputs(self, pixels: Tensor) -> Tensor:
        """`zoo.preprocess.normalise` on the device: uint8 [N, S, S, 3] → float [N, 3, S, S]."""
        inputs = normalised(pixels, self.spec.preprocess, self.margin.weight.dtype)
        return inputs if self.execution.channels_last else inputs.contiguous()

    def _moved(self, values: Tensor) -> Tensor:
        """On the device, without waiting for the copy."""
        return values.pin_memory().to(self.device, non_blocking=True) if self.execution.on_gpu else values

    @torch.no_grad()
    def _clip(self) -> tuple[Tensor, Tensor | None]:
        """Scales the gradients. Returns their norm before that, float [1], and in float16 whether to skip the update."""
        network = [value.grad for name, value in self.parameters.items() if not name.startswith(LOSS_PREFIX)]
        classes = [value.grad for name, value in self.parameters.items() if name.startswith(LOSS_PREFIX)]
        every = [gradient for gradient in (*network, *classes) if gradient is not None]
        squares = self.group.total(sums_of_squares(classes).to(self.device))
        if network:
            squares = squares + sums_of_squares(network).to(self.device)
        norm = squares.sqrt() / self.scale[0]
        limit = self.recipe.gradient_clip
        factor = (limit / (norm + 1e-6)).clamp(max=1.0) if limit is not None else torch.ones_like(norm)
        skip = None
        if self.execution.precision == "float16":
            overflown = ~norm.isfinite()
            factor = torch.where(overflown, 0.0, factor / self.scale[0])
            skip = overflown.float().reshape(())
            self._move_scale(overflown)
        # Multiplying by 1 changes nothing; but on a GPU one would have to wait to know the factor.
        if skip is not None or (limit is not None and (self.execution.on_gpu or float(factor) != 1)):
            torch._foreach_mul_(every, factor.to(every[0].dtype).reshape(()))
        return norm, skip

    def _move_scale(self, overflown: Tensor) -> None:
        scale, good = self.scale[:1], self.scale[1:] + 1
        grown = good >= _STEPS_TO_GROW
        scale = torch.where(overflown, scale / 2, torch.where(grown, scale * 2, scale))
        self.scale = torch.cat([scale, torch.where(overflown | grown, 0.0, good)])

    def _distribute(self) -> None:
        """Makes the network's gradients the mean over the processes, and the sums' order that of all later steps.

        DistributedDataParallel orders its buckets anew after the first step of a process. A resumed run would take one step in
        the first order and differ in the last digits, so a step on noise, which changes nothing, comes first.
        """
        if self.group.size == 1 or not any(value.requires_grad for value in self.model.parameters()):
            return
        devices = [self.device.index] if self.execution.on_gpu else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name is not known to older versions
            self.network = DistributedDataParallel(self.model, device_ids=devices, broadcast_buffers=False)
        self.model.eval()
        for _ in range(2):
            noise = torch.randn(2, 3, 64, 64, device=self.device, dtype=self.margin.weight.dtype)
            self.network(noise).sum().backward()
        self.model.zero_grad()
        self._to_train()

    def _to_train(self) -> None:
        """Training mode, except for BatchNorm in frozen parts, which keeps its statistics."""
        self.model.train()
        self.margin.train()
        for name, module in self.model.named_modules():
            if self.recipe.freezes(name):
                module.eval()

    def _weights(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint, not copies."""
        return _saved(self.model) | _prefixed(_saved(self.margin))

    def _statistics(self) -> dict[str, Tensor]:
        """BatchNorm's running statistics and their averages, by the names of `tensors`; not copies."""
        return {n: v for n, v in self._state().items() if n.endswith((".running_mean", ".running_var"))}

    def _state(self) -> dict[str, Tensor]:
        state = {f"weights/{name}": value for name, value in self._weights().items()} | self.optimiser.tensors()
        average = self.average.tensors if self.average else {}
        return state | {f"average/{name}": value for name, value in average.items()}

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model has the moving average's weights for as long as the body runs."""
        assert self.average
        own = {name: value.clone() for name, value in _saved(self.model).items()}
        try:
            for name, value in _saved(self.model).items():
                value.copy_(self.average.tensors[name])
            yield
        finally:
            for name, value in _saved(self.model).items():
                value.copy_(own[name])


def count_gpus() -> int:
    """GPUs that PyTorch sees."""
    return torch.cuda.device_count()


def normalised(pixels: Tensor, spec: PreprocessSpec, kind: torch.dtype = torch.float32) -> Tensor:
    """Images uint8 [N, H, W, 3], RGB, as the network's input [N, 3, H, W]; the same numbers as `zoo.preprocess.normalise`."""
    if spec.channels == "bgr":
        pixels = pixels.flip(3)
    mean, std = (torch.tensor(values, dtype=torch.float32, device=pixels.device) for values in (spec.mean, spec.std))
    return ((pixels.float() / 255 - mean) / std).to(kind).permute(0, 3, 1, 2)


def _overwrite_before_relu(model: nn.Module) -> None:
    """Makes every ReLU write over its input, which nothing else reads: the same numbers from less memory, and faster."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True


def _keep_freed_memory() -> None:
    """Has glibc keep what a step frees for the next step. It would otherwise return it to the system, which has to clear every
    page before the next step gets it: 5 % of the processor's time. Other C libraries are left as they are.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option:
        set_option(_M_MMAP_THRESHOLD, 2**25)  # the largest that glibc accepts; a smaller tensor comes from the heap
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


def _nested(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name if name.startswith(LOSS_PREFIX) else f"model.{name}": value for name, value in weights.items()}


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{LOSS_PREFIX}{name}": value for name, value in tensors.items()}


def _saved(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors, without BatchNorm's count of batches, which a fixed momentum does not use."""
    return {n: v for n, v in module.state_dict().items() if not n.endswith("num_batches_tracked")}


if __name__ == "__main__":
    run(lambda: main(Trainer, join, count_gpus))
