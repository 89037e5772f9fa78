"""What Paddle must be told about the processor before it is imported."""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}


def paddle_settings(cpuinfo: str | None = None) -> dict[str, str]:
    """Environment variables that make Paddle fast on this processor; each counts only if the user has not set it.

    - `OMP_NUM_THREADS`: Paddle sets it to 1 for itself and its children unless it is set; here, the processors that this process
      may use.
    - `MKL_DEBUG_CPU_TYPE`: the MKL of 2019 in Paddle's wheels takes its slowest instructions on processors that are not Intel's.
      7 stands for AVX-512, 5 for AVX2. An empty value leaves MKL as it is.

    Args:
        cpuinfo: the text of /proc/cpuinfo; by default this machine's.
    """
    settings = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    kind = _mkl_type(_read_cpuinfo() if cpuinfo is None else cpuinfo)
    return settings | ({"MKL_DEBUG_CPU_TYPE": kind} if kind else {})


def _read_cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mkl_type(cpuinfo: str) -> str | None:
    """MKL's name of the best instructions that the processor has; None for Intel's own, which MKL knows, and for unknown ones."""
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    values = {key.strip(): value.split() for key, value in fields.items()}
    if values.get("vendor_id", ["GenuineIntel"]) == ["GenuineIntel"]:
        return None
    flags = set(values.get("flags", []))
    if flags >= _AVX512:
        return "7"
    return "5" if "avx2" in flags else None
