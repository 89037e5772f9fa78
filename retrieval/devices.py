"""Where a search runs."""

import importlib.util
from pathlib import Path

from zoo.errors import SpecError

BFLOAT16 = "bfloat16"
"""CPUs, with candidates from products in bfloat16, and without for small searches."""
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""What the drivers of NVIDIA and AMD make; importing PyTorch to ask takes seconds."""
_CPUINFO = Path("/proc/cpuinfo")
_FAST = "amx_bf16"
"""The processor's flag for bfloat16 products that are many times as fast as those of float32."""


def choose_device(wanted: str) -> str:
    """`cpu`, `bfloat16`, or the name of a GPU in PyTorch. All of them find the same neighbours.

    Args:
        wanted: `auto`, which takes what is fastest here, `cpu`, `bfloat16`, `cuda` or `cuda:N`.

    Raises:
        SpecError: it is none of these, PyTorch sees no such GPU, or the processor is slow with bfloat16.
        ModuleNotFoundError: PyTorch is needed and not installed.
    """
    name, _, number = wanted.partition(":")
    if name not in ("auto", "cpu", BFLOAT16, "cuda") or (
        ":" in wanted and not (name == "cuda" and number.isascii() and number.isdecimal())
    ):
        raise SpecError(f"--device {wanted}: expected auto, cpu, bfloat16, cuda or cuda:N, for example cuda:1")
    if name == "auto":
        return _fastest()
    if name == BFLOAT16 and not _has_fast_bfloat16():
        raise SpecError(f"--device {wanted}: this processor has no {_FAST}, so that would be slow. Choose cpu.")
    if name == "cuda":
        _require_gpu(wanted, int(number or 0))
    return wanted


def _fastest() -> str:
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    if any(Path(driver).exists() for driver in _DRIVERS):
        from retrieval.torch_candidates import count_gpus

        if count_gpus():
            return "cuda"
    return BFLOAT16 if _has_fast_bfloat16() else "cpu"


def _require_gpu(wanted: str, number: int) -> None:
    from retrieval.torch_candidates import count_gpus

    if number >= (gpus := count_gpus()):
        raise SpecError(
            f"--device {wanted}: there is no such GPU; PyTorch sees {gpus}. Choose another, or --device cpu."
        )


def _has_fast_bfloat16() -> bool:
    try:
        return _FAST in _CPUINFO.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
