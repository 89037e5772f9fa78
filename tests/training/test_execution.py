"""The device that a process gets."""

import pytest

from training.execution import choose_device
from zoo.errors import SpecError


@pytest.mark.parametrize(
    ("wanted", "gpus", "process", "device"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 2, 1, "cuda:1"),
        ("cpu", 2, 0, "cpu"),
        ("cuda", 2, 1, "cuda:1"),
        ("cuda:0", 1, 3, "cuda:0"),
    ],
)
def test_each_process_gets_its_device(wanted, gpus, process, device):
    assert choose_device(wanted, gpus, process) == device


@pytest.mark.parametrize(
    ("wanted", "gpus", "message"),
    [
        ("cuda", 0, "this build of the framework sees none"),
        ("cuda:2", 2, r"there is no GPU 2; the framework sees 2, numbered from 0.*--device cpu"),
        ("auto:1", 1, "expected auto, cpu, cuda or cuda:N"),
        ("gpu", 1, "expected auto, cpu, cuda or cuda:N"),
        ("cuda:", 1, "expected auto, cpu, cuda or cuda:N"),
        ("cuda:x", 1, "expected auto, cpu, cuda or cuda:N"),
        ("", 1, "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_does_not_exist_is_named(wanted, gpus, message):
    with pytest.raises(SpecError, match=message):
        choose_device(wanted, gpus, 0)
