"""How a training is computed: the device, the precision, and what a framework may do to be faster. Not what is trained."""

import argparse
from dataclasses import dataclass
from typing import Literal, get_args

from zoo.errors import SpecError

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Execution:
    """The options of both trainers that change speed and memory, and with them only the rounding.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`. With several processes, each takes the GPU of its number on its machine.
        precision: of the network's activations. The weights, the loss and the class weights stay in float32.
        channels_last: the layout of images and features in memory, for PyTorch.
        compile: compile the network before training (`torch.compile`); PyTorch only.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"


PLAIN = Execution()
"""Float32 on a CPU."""


def choose_device(wanted: str, gpus: int, process: int) -> str:
    """The device of a process.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes a GPU if there is one.
        gpus: number of GPUs that the framework sees.
        process: number of the process on this machine, from 0.

    Raises:
        SpecError: it is none of these, or there is no such GPU.
    """
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "cpu"
    name, _, number = wanted.partition(":")
    if (name != "cuda" and wanted != "auto") or (":" in wanted and not (number.isascii() and number.isdecimal())):
        raise SpecError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N, for example cuda:1")
    chosen = int(number) if number else process
    if chosen >= gpus:
        why = "this build of the framework sees none" if not gpus else f"the framework sees {gpus}, numbered from 0"
        raise SpecError(f"--device {wanted}: there is no GPU {chosen}; {why}. Choose another, or --device cpu.")
    return f"cuda:{chosen}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `Execution` for a command line."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=get_args(Precision),
        help="of the activations; float16 scales the loss. Default: float32",
    )
    parser.add_argument("--no-channels-last", action="store_true", help="PyTorch: keep the features as N, C, H, W")
    parser.add_argument("--compile", action="store_true", help="PyTorch: compile the network (torch.compile)")
