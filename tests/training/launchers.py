"""The command lines of the frameworks' own launchers, with gloo on this machine."""

import sys
from collections.abc import Sequence
from pathlib import Path


def launched(framework: str, processes: int, log: Path, words: Sequence[str]) -> list[str]:
    """The command that runs a Python script in several processes, or in one without a launcher.

    Args:
        framework: `torch` or `paddle`.
        processes: how many.
        log: a folder for what Paddle's launcher writes.
        words: the script's path and its arguments.
    """
    if processes == 1:
        return [sys.executable, *words]
    count = ["--nproc_per_node", str(processes)]
    if framework == "torch":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", *count, *words]
    return [sys.executable, "-m", "paddle.distributed.launch", *count, "--log_dir", str(log), *words]
