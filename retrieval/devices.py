"""Where a search runs."""

from pathlib import Path

from zoo.errors import SpecError

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""What the drivers of NVIDIA and AMD make; importing PyTorch to ask takes seconds."""


def choose_device(wanted: str) -> str:
    """`cpu`, or the name of a GPU in PyTorch.

    Args:
        wanted: `auto`, which takes a GPU if there is one and PyTorch is installed, `cpu`, `cuda` or `cuda:N`.

    Raises:
        SpecError: it is none of these, or PyTorch sees no such GPU.
        ModuleNotFoundError: a GPU is asked for and PyTorch is not installed.
    """
    name, _, number = wanted.partition(":")
    if name not in ("auto", "cpu", "cuda") or (
        ":" in wanted and not (name == "cuda" and number.isascii() and number.isdecimal())
    ):
        raise SpecError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N, for example cuda:1")
    if name == "cpu" or (name == "auto" and not any(Path(driver).exists() for driver in _DRIVERS)):
        return "cpu"
    try:
        from retrieval.torch_candidates import count_gpus
    except ModuleNotFoundError:
        if name == "auto":
            return "cpu"
        raise
    gpus = count_gpus()
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if int(number or 0) >= gpus:
        raise SpecError(
            f"--device {wanted}: there is no such GPU; PyTorch sees {gpus}. Choose another, or --device cpu."
        )
    return wanted
