"""One process says that another one has ended."""

import os
import subprocess
import sys

import pytest

from training import partners
from training.partners import Partner, ended, myself, obituary


@pytest.fixture
def dead() -> Partner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Partner(myself().host, process.pid)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(partners, "_SETTLE_SECONDS", 0)


def test_the_first_living_process_speaks(dead):
    alive = Partner(myself().host, os.getppid())
    assert obituary([alive, dead, myself()], 2) is None
    assert f"process 0 (pid {dead.pid}) of 3 has ended" in str(obituary([dead, myself(), alive], 1))


def test_processes_of_other_hosts_are_not_judged():
    elsewhere = Partner("elsewhere", 2**22 - 1)
    assert ended([elsewhere, myself()], 1) == []
    assert "another process cannot be reached" in str(obituary([elsewhere, myself()], 1))


def test_a_process_that_nobody_has_waited_for_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.communicate()
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while not ended([Partner(myself().host, zombie.pid), myself()], 1):
        pass
    zombie.wait()
