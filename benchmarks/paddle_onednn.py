"""Shows that Paddle computes wrong values in static graphs with oneDNN: `square` overwrites its input.

Example:
    python -m benchmarks.paddle_onednn

With `FLAGS_use_mkldnn` on, `paddle.jit.to_static` replaces `square` by oneDNN's version, which writes its result into the
memory of its input. Whatever reads that input afterwards reads the square instead. Three lines show it:

    def reciprocal(x):
        a = x * 2
        return a / a.square()        # 1 / a; with the flag, in a static graph: a² / a² = 1

A descriptor's division by its norm has the same form. Without the flag, which is off by default, static graphs are right;
eager mode is right with and without it, because it never uses oneDNN.

The last line of stdout is the path of the JSON file with all differences.
"""

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_files import write_results
from zoo.command import run
from zoo.variants import get_spec

FLAG = "FLAGS_use_mkldnn"
NETWORKS = ("resnet10_narrow", "resnet18")
SIZE = 64


def reciprocal(x: Any) -> Any:
    """1 / (2 x) of a Paddle tensor."""
    a = x * 2.0
    return a / a.square()


def without_square(x: Any) -> Any:
    """The same without `square`."""
    a = x * 2.0
    return a / (a * a)


def _same(function: Callable) -> Callable:
    return function


def measure(name: str, make: Callable[[], Callable], numbers: np.ndarray, flag: bool) -> dict:
    """How far eager mode and a static graph are from eager mode without the flag, as largest absolute differences."""
    import paddle

    inputs = paddle.to_tensor(numbers)
    with paddle.no_grad():
        paddle.set_flags({FLAG: False})
        right = make()(inputs).numpy()
        paddle.set_flags({FLAG: flag})
        eager = make()(inputs).numpy()
        static = paddle.jit.to_static(make(), full_graph=True)(inputs).numpy()
        paddle.set_flags({FLAG: False})
    return {
        "network": name,
        "flag": flag,
        "largest": float(np.abs(right).max()),
        "eager": float(np.abs(eager - right).max()),
        "static": float(np.abs(static - right).max()),
    }


def measure_all() -> list[dict]:
    """One row per network and value of the flag."""
    from paddle_models.create import create_model

    numbers = np.array([[1.0, 2.0, 3.0]], np.float32)
    rows = [
        measure(name, functools.partial(_same, function), numbers, flag)
        for name, function in (("a / a.square()", reciprocal), ("a / (a * a)", without_square))
        for flag in (False, True)
    ]
    images = np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    for name in NETWORKS:
        rows += [measure(name, functools.partial(create_model, get_spec(name)), images, flag) for flag in (False, True)]
    return rows


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [f"| network | {FLAG} | largest value | eager is off by | static graph is off by |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for row in rows:
        flag = "on" if row["flag"] else "off"
        differences = f"{row['eager']:.1e} | {row['static']:.1e}"
        lines.append(f"| {row['network']} | {flag} | {row['largest']:.2f} | {differences} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write (default: benchmarks/results/paddle_onednn.json)")
    arguments = parser.parse_args()
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle logs every graph that it runs
    import paddle

    rows = measure_all()
    print(table(rows))
    print(write_results("paddle_onednn", {"paddle": paddle.__version__, "rows": rows}, arguments.out))


if __name__ == "__main__":
    run(main)
