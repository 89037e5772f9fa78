"""The progress line of a training: images per second, the share of the time spent waiting for data, and the time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tqdm import tqdm

from training.schedule import Step


class Progress:
    """A line on stderr, if it is shown, and the speed of the last steps.

    Args:
        name: of the run.
        done: finished steps.
        steps: of the whole run.
        batch_size: images per step, of all processes.
        shown: whether there is a line.
    """

    def __init__(self, name: str, done: int, steps: int, batch_size: int, *, shown: bool) -> None:
        self._bar = tqdm(total=steps, initial=done, desc=name, unit="step", disable=not shown)
        self._batch_size, self._since, self._waited = batch_size, time.perf_counter(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The body waits for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def say(self, message: str) -> None:
        """Prints a line above the progress line."""
        if not self._bar.disable:
            tqdm.write(message, file=sys.stderr)

    def advance(self, steps: int, step: Step, loss: float, accuracy: float) -> float:
        """Shows that steps are done, `step` the last of them. Returns images per second since the last call."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        speed, share = steps * self._batch_size / seconds, self._waited / seconds
        self._since, self._waited = now, 0.0
        self._bar.set_postfix_str(
            f"stage={step.stage}, px={step.resolution}, loss={loss:.3f}, accuracy={accuracy:.2f}, "
            f"{speed:.0f} images/s, data wait {share:.0%}",
            refresh=False,
        )
        self._bar.update(steps)
        return speed
