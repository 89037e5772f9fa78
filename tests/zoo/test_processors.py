"""What Paddle is told about the processor, and that it is told in time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.processors import paddle_settings

ROOT = Path(__file__).resolve().parents[2]
AVX512 = "avx2 avx512f avx512dq avx512bw avx512vl"


def cpuinfo(vendor: str, flags: str) -> str:
    return f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A: B\nflags\t\t: fpu {flags}\n\n" * 2


@pytest.mark.parametrize(
    ("vendor", "flags", "kind"),
    [
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", "avx2 avx512f", "5"),
        ("HygonGenuine", "avx2", "5"),
        ("AuthenticAMD", "sse4_2", None),
        ("GenuineIntel", AVX512, None),
    ],
)
def test_mkl_is_told_what_a_processor_of_another_maker_has(vendor, flags, kind):
    assert paddle_settings(cpuinfo(vendor, flags)).get("MKL_DEBUG_CPU_TYPE") == kind


@pytest.mark.parametrize("text", ["", "processor : 0\nBogoMIPS : 1\nFeatures : asimd\n", "no colon"])
def test_an_unknown_processor_is_left_alone(text):
    assert paddle_settings(text).keys() == {"OMP_NUM_THREADS"}


@pytest.mark.parametrize(("given", "threads"), [(None, len(os.sched_getaffinity(0))), ("1", 1), ("3", 3)])
def test_paddle_gets_the_processors_of_the_process_unless_the_user_says_otherwise(given, threads):
    pytest.importorskip("paddle")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"OMP_NUM_THREADS": given} if given else {})
    code = "import paddle_models.layers, paddle, os; print(os.environ['OMP_NUM_THREADS'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert int(done.stdout) == threads


def test_an_empty_value_switches_the_setting_off(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "")
    code = "import os, paddle_models; print(repr(os.environ['MKL_DEBUG_CPU_TYPE']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "''"
