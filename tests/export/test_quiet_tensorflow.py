"""Importing the writer must not reserve the memory of GPUs."""

import subprocess
import sys

SCRIPT = """
import tensorflow as tf

calls, hide, initialise = [], tf.config.set_visible_devices, tf.config.list_logical_devices
tf.config.set_visible_devices = lambda *devices: calls.append(devices) or hide(*devices)
tf.config.list_logical_devices = lambda *kinds: calls.append("initialise") or initialise(*kinds)
import export.writer.graph

assert calls[:2] == [([], "GPU"), "initialise"], calls
assert tf.config.get_visible_devices("GPU") == []
assert tf.config.list_logical_devices("GPU") == []
"""


def test_the_writer_hides_gpus_before_it_initialises_devices():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
