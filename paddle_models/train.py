"""Training in Paddle: one step on the margin loss, on any number of processes; `training.loop` does the rest."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_models.checkpoint import canonical_tensors, from_paddle, to_paddle
from paddle_models.distributed import (
    ALONE,
    Group,
    cross_entropy,
    gather_descriptors,
    join,
    sums_of_squares,
    synchronise_batch_norm,
)
from paddle_models.embedder import Embedder
from paddle_models.margins import build_margin
from paddle_models.optimiser import MovingAverage, Optimiser
from training.classes import drawn_classes
from training.command import main
from training.execution import PLAIN, Execution
from training.recipes import Recipe
from training.schedule import Step
from zoo.command import run
from zoo.errors import SpecError
from zoo.specs import ModelSpec, PreprocessSpec
from zoo.weights import LOSS_PREFIX

_FIRST_SCALE, _STEPS_TO_GROW = 2.0**16, 2000
"""Of the loss in float16, as in PyTorch's GradScaler: halved after an overflow, doubled after so many steps without one."""


class Trainer:
    """A model, its class weights and an optimiser (`training.loop.Trainer`).

    Args:
        spec: the model.
        classes: of all processes.
        recipe: the optimiser and what belongs to a step.
        weights: float arrays by canonical name; of the class weights, only this process's rows.
        execution: device and precision.
        group: the processes.

    Raises:
        SpecError: the execution asks for a compiled network.
    """

    framework = "paddle"
    version = paddle.__version__

    def __init__(
        self,
        spec: ModelSpec,
        classes: int,
        recipe: Recipe,
        weights: dict[str, np.ndarray],
        execution: Execution = PLAIN,
        group: Group = ALONE,
    ) -> None:
        if execution.compile:
            raise SpecError(
                "--compile: only PyTorch trains compiled; the gradients of Paddle 3.3's to_static are refused. Leave the option out."
            )
        self.spec, self.recipe, self.execution, self.group = spec, recipe, execution, group
        paddle.device.set_device(execution.device.replace("cuda", "gpu"))
        size, loss = spec.embedding_size, spec.loss
        self.model = Embedder(spec)
        self.margin = build_margin(loss, classes, size, recipe.scale, group)
        _copy(self._weights(), weights)
        if recipe.batch_norm == "synchronised" and group.size > 1:
            synchronise_batch_norm(self.model, group)
        else:
            _unbias_statistics(self.model)
        # BatchNorm's running statistics are parameters in Paddle, without a gradient.
        named = {name: value for name, value in self._weights().items() if not value.stop_gradient}
        for name, value in named.items():
            value.stop_gradient = recipe.freezes(name)
        self.parameters = {name: value for name, value in named.items() if not value.stop_gradient}
        self.optimiser = Optimiser(self.parameters, recipe)
        self.average = MovingAverage(self._weights(), recipe.average) if recipe.average else None
        self.scale = paddle.to_tensor([_FIRST_SCALE if execution.precision == "float16" else 1.0, 0.0], "float32")
        self._to_train()
        self.network: nn.Layer = self.model
        self._distribute()

    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> Tensor:
        """One step on this process's part of the batch: images uint8 [N, S, S, 3] and labels int64 [N].

        Returns:
            float [3] on the device, to be given to `read`: the loss and the accuracy (0 to 1) of the whole batch before the
            step, both with the margin applied, and the Euclidean norm of all gradients before clipping.
        """
        # Strided, so that a part of the whole batch is the same with any number of processes.
        parts = self.recipe.accumulation
        measured = []
        for number in range(parts):
            last = number == parts - 1
            wrapped = isinstance(self.network, paddle.DataParallel) and not last
            with self.network.no_sync() if wrapped else contextlib.nullcontext():
                loss, accuracy = self._losses(images[number::parts], labels[number::parts], step)
                (loss * (self.scale[0].astype(loss.dtype) / parts)).backward()
            measured.append(paddle.stack([loss.detach(), accuracy]))
        norm, skip = self._clip()
        self.optimiser.step(step.learning_rate, skip)
        if self.average:
            self.average.update(self._weights().values(), self.optimiser.updates)
        return paddle.concat([paddle.stack(measured).mean(axis=0), norm.astype(measured[0].dtype)])

    def read(self, measured: Sequence[Tensor]) -> np.ndarray:
        """float64 [N, 3] of what N steps returned; waits until the device has computed them."""
        return paddle.stack(list(measured)).astype("float64").numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """Copies of everything that a resumed run needs, as `<kind>/<canonical name>`; of the class weights, this process's rows."""
        return {name: from_paddle(name, value.numpy()) for name, value in self._state().items()}

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""
        _copy(self._state(), tensors)

    def numbers(self) -> dict[str, float]:
        """The state that is no tensor."""
        scale, good = self.scale.tolist()
        return {"updates": self.optimiser.updates, "loss scale": scale, "steps without overflow": good}

    def load_numbers(self, numbers: dict[str, float]) -> None:
        """Restores what `numbers` returned."""
        self.optimiser.restore(int(numbers["updates"]))
        self.scale.set_value(np.array([numbers["loss scale"], numbers["steps without overflow"]], np.float32))

    def take_average(self) -> None:
        """Goes on from the moving average, with an optimiser that has forgotten all updates."""
        if self.average:
            for value, average in zip(self._weights().values(), self.average.tensors.values(), strict=True):
                value.set_value(average)
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
        with paddle.no_grad():
            for value in own.values():
                value.set_value(self.group.total(value) / self.group.size)
        try:
            yield {name: value.numpy() for name, value in before.items()}
        finally:
            with paddle.no_grad():
                for value, kept in zip(own.values(), before.values(), strict=True):
                    value.set_value(kept)

    @paddle.no_grad()
    def embed(self, images: np.ndarray, averaged: bool = False) -> np.ndarray:
        """Descriptors float32 [N, D] of normalised images float32 [N, 3, S, S], by the weights or by their moving average."""
        with self._averaged() if averaged and self.average else contextlib.nullcontext():
            self.model.eval()
            try:
                inputs = paddle.to_tensor(images).astype(self.margin.weight.dtype)
                return self.model(inputs).astype("float32").numpy()
            finally:
                self._to_train()

    def _losses(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[Tensor, Tensor]:
        every = self.group.gathered(paddle.to_tensor(np.ascontiguousarray(labels)))
        drawn = None
        if self.recipe.negatives is not None:
            chosen = drawn_classes(
                self.margin.classes, every.numpy(), self.recipe.negatives, self.recipe.seed, step.number
            )
            drawn = paddle.to_tensor(chosen)
        inputs = self._inputs(paddle.to_tensor(np.ascontiguousarray(images)))
        precision = self.execution.precision
        with paddle.amp.auto_cast(precision != "float32", dtype=precision if precision != "float32" else "float16"):
            descriptors = self.network(inputs)
        descriptors = gather_descriptors(descriptors.astype(self.margin.weight.dtype), self.group)
        logits = self.margin(descriptors, every, step.margin, drawn)
        return cross_entropy(logits, self.group, self.recipe.label_smoothing)

    def _inputs(self, pixels: Tensor) -> Tensor:
        """`zoo.preprocess.normalise` on the device: uint8 [N, S, S, 3] → float [N, 3, S, S]."""
        return normalised(pixels, self.spec.preprocess, self.margin.weight.dtype)

    @paddle.no_grad()
    def _clip(self) -> tuple[Tensor, Tensor | None]:
        """Scales the gradients. Returns their norm before that, float [1], and in float16 whether to skip the update."""
        network = [value.grad for name, value in self.parameters.items() if not name.startswith(LOSS_PREFIX)]
        classes = [value.grad for name, value in self.parameters.items() if name.startswith(LOSS_PREFIX)]
        every = [gradient for gradient in (*network, *classes) if gradient is not None]
        squares = self.group.total(sums_of_squares(classes))
        if network:
            squares = squares + sums_of_squares(network)
        norm = squares.sqrt() / self.scale[0].astype("float64")
        limit = self.recipe.gradient_clip
        factor = (limit / (norm + 1e-6)).clip(max=1.0) if limit is not None else paddle.ones_like(norm)
        skip = None
        if self.execution.precision == "float16":
            overflown = ~norm.isfinite()
            factor = paddle.where(overflown, paddle.zeros_like(norm), factor / self.scale[0].astype("float64"))
            skip = overflown.astype("float32").reshape([])
            self._move_scale(overflown)
        if limit is None and skip is None:
            return norm, skip
        if self.execution.on_gpu:
            for gradient in every:
                gradient.multiply_(factor.astype(gradient.dtype))
        elif float(factor) != 1:  # a CPU need not be waited for, and multiplies faster by a number than by a tensor
            for gradient in every:
                gradient.scale_(float(factor))
        return norm, skip

    def _move_scale(self, overflown: Tensor) -> None:
        scale, good = self.scale[:1], self.scale[1:] + 1
        grown = good >= _STEPS_TO_GROW
        scale = paddle.where(overflown, scale / 2, paddle.where(grown, scale * 2, scale))
        self.scale = paddle.concat([scale, paddle.where(overflown | grown, paddle.zeros_like(good), good)])

    def _distribute(self) -> None:
        """Makes the network's gradients the mean over the processes. Paddle sums them in the same order in every step."""
        if self.group.size == 1 or all(value.stop_gradient for value in self.model.parameters()):
            return
        self.network = paddle.DataParallel(self.network)

    def _to_train(self) -> None:
        """Training mode, except for BatchNorm in frozen parts, which keeps its statistics."""
        self.model.train()
        self.margin.train()
        for name, layer in self.model.named_sublayers():
            if self.recipe.freezes(name):
                layer.eval()

    def _weights(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint, not copies, in Paddle's layout."""
        return canonical_tensors(self.model) | _prefixed(canonical_tensors(self.margin))

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
        own = {name: value.clone() for name, value in canonical_tensors(self.model).items()}
        try:
            for name, value in canonical_tensors(self.model).items():
                value.set_value(self.average.tensors[name])
            yield
        finally:
            for name, value in canonical_tensors(self.model).items():
                value.set_value(own[name])


def count_gpus() -> int:
    """GPUs that Paddle sees."""
    return paddle.device.cuda.device_count()


def normalised(pixels: Tensor, spec: PreprocessSpec, kind: paddle.dtype = paddle.float32) -> Tensor:
    """Images uint8 [N, H, W, 3], RGB, as the network's input [N, 3, H, W]; the same numbers as `zoo.preprocess.normalise`."""
    values = pixels.astype("float32")
    if spec.channels == "bgr":
        values = values.flip([3])
    mean, std = (paddle.to_tensor(values, "float32") for values in (spec.mean, spec.std))
    return ((values / 255 - mean) / std).astype(kind).transpose([0, 3, 1, 2])


def _copy(tensors: dict[str, Tensor], values: dict[str, np.ndarray]) -> None:
    """Copies arrays in the canonical layout into tensors of the same names.

    Raises:
        KeyError: the names are not the same.
    """
    if tensors.keys() != values.keys():
        raise KeyError(f"tensors differ: {sorted(tensors.keys() ^ values.keys())[:4]}")
    for name, tensor in tensors.items():
        tensor.set_value(to_paddle(name, values[name]).astype(tensor.numpy().dtype))


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{LOSS_PREFIX}{name}": value for name, value in tensors.items()}


def _unbias_statistics(model: nn.Layer) -> None:
    """Makes BatchNorm's running variance follow the unbiased batch variance, as in PyTorch; Paddle's is biased."""

    before: dict[nn.Layer, Tensor] = {}

    def remember(layer: nn.Layer, inputs: tuple[Tensor]) -> None:
        before[layer] = layer._variance.clone()

    def correct(layer: nn.Layer, inputs: tuple[Tensor], output: Tensor) -> None:
        if layer.training:
            count, kept = (
                output.size // output.shape[1],
                before[layer] * float(np.float32(layer._momentum)),
            )  # as the kernel
            layer._variance.set_value(kept + (layer._variance - kept) * (count / max(count - 1, 1)))

    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm1D | nn.BatchNorm2D):
            layer.register_forward_pre_hook(remember)
            layer.register_forward_post_hook(correct)


if __name__ == "__main__":
    run(lambda: main(Trainer, join, count_gpus))
