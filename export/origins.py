"""What an export begins with: a checkpoint of the zoo, or an ONNX file from elsewhere."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from export.onnx_metadata import IMPORTED
from export.parity.everywhere import Arrays, read
from export.steps import run_step
from zoo.constants import FRAMEWORKS
from zoo.specs import PreprocessSpec


class Origin(Protocol):
    """What the steps of an export know of the network."""

    @property
    def name(self) -> str:
        """The network's name."""
        ...

    @property
    def preprocess(self) -> PreprocessSpec:
        """How its images are prepared."""
        ...

    @property
    def exported_from(self) -> str:
        """The framework whose exporter is used, or `export.onnx_metadata.IMPORTED`."""
        ...

    @property
    def runs_in(self) -> str:
        """What computes it before it is rewritten, for the log."""
        ...

    def write_onnx(self, out: Path) -> None:
        """Writes its ONNX file."""
        ...

    def descriptors(self, batches: Arrays, work: Path) -> dict[str, Arrays]:
        """Descriptors of batches of resized pixels from each framework that has the network; `work` is for files."""
        ...


@dataclass(frozen=True)
class OfCheckpoint:
    """A checkpoint; `path` is a copy that nobody changes in the meantime."""

    path: Path
    name: str
    preprocess: PreprocessSpec
    exported_from: str
    runs_in = "PyTorch, Paddle and ONNX Runtime"

    def write_onnx(self, out: Path) -> None:
        """By the framework's own exporter."""
        options = ("--ckpt", self.path, "--framework", self.exported_from, "--out", out)
        run_step("export.to_onnx", *options, made=out)

    def descriptors(self, batches: Arrays, work: Path) -> dict[str, Arrays]:
        """From both frameworks, side by side."""
        pixels = work / "pixels.npz"
        np.savez(pixels, **batches)

        def run(framework: str) -> Arrays:
            out = work / f"{framework}.npz"
            run_step(f"{framework}_models.embed", "--ckpt", self.path, "--pixels", pixels, "--out", out)
            return read(out)

        with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
            return dict(zip(FRAMEWORKS, pool.map(run, FRAMEWORKS), strict=True))


@dataclass(frozen=True)
class OfOnnxFile:
    """Somebody's ONNX file; `output` is the tensor that is its descriptor, None for its only output."""

    path: Path
    name: str
    preprocess: PreprocessSpec
    output: str | None = None
    exported_from = IMPORTED
    runs_in = "ONNX Runtime"

    def write_onnx(self, out: Path) -> None:
        """The same network with the project's input, output and metadata."""
        spec = self.preprocess
        options = ("--size", spec.size, "--channels", spec.channels, "--resize", spec.resize, "--name", self.name)
        colours = ("--mean", *spec.mean, "--std", *spec.std)
        output = ("--output", self.output) if self.output is not None else ()
        run_step("export.from_onnx", "--onnx", self.path, *options, *colours, *output, "--out", out, made=out)

    def descriptors(self, batches: Arrays, work: Path) -> dict[str, Arrays]:
        """None: the file is all that there is of the network."""
        return {}
