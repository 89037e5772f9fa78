"""TensorBoard's files of a training, written by tensorboardX: neither framework nor TensorFlow is needed."""

from pathlib import Path
from typing import Any, Self

from training.schedule import Step
from zoo.errors import MissingToolError


class Events:
    """Scalars per step, for `tensorboard --logdir FOLDER`; nothing is written without a folder.

    Args:
        folder: of the files of several runs, or None.
        name: of this run: a folder in it.
        done: finished steps. Later ones in the folder, of a run that was killed, are hidden.

    Raises:
        MissingToolError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None, name: str, done: int) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingToolError(
                "--tensorboard needs tensorboardX. Install it with `pip install 'landmark-zoo[tensorboard]'`, or leave the option out."
            ) from error
        self._writer = SummaryWriter(str(folder / name), purge_step=done or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer:
            self._writer.close()

    def step(self, step: Step, loss: float, accuracy: float, gradient_norm: float) -> None:
        """What a step measured and how it was made."""
        self._add(
            step.number,
            loss=loss,
            accuracy=accuracy,
            gradient_norm=gradient_norm,
            learning_rate=step.learning_rate,
            margin=step.margin,
            resolution=step.resolution,
        )

    def speed(self, number: int, images_per_second: float) -> None:
        """The speed of the last steps."""
        self._add(number, images_per_second=images_per_second)

    def score(self, number: int, map100: float) -> None:
        """mAP@100 on the validation set after so many steps."""
        self._add(number, validation_map100=map100)

    def _add(self, number: int, **values: float) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, number)
