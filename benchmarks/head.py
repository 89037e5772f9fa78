"""Measures the class-divided head alone at the full data set's size: memory and exchange of a step on 1, 2 and 4 processes.

Examples:
    python -m benchmarks.head
    python -m benchmarks.head --device cuda --frameworks torch --processes 1

A step is ArcMargin, the cross entropy, their gradients and SGD with momentum, on 203,094 classes of 512 values, as the train split of
Google Landmarks v2 has them. Without a division, data parallelism would hold all class weights in every process and sum their
whole gradient over the processes. The last line of stdout is the path of the JSON file.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_files import write_results
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.errors import ZooError
from zoo.processes import ending, module_command, module_environment, run_command

_MIB = 2**20


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes:
        framework: `torch` or `paddle`.
        processes: their number.
        negatives: share of the other classes that a step compares with; None: all.
        classes: of all processes.
        embedding: length of a descriptor.
        batch: images of all processes together.
        steps: their number; the first one is not timed.
        device: `cpu` or `cuda`.
    """

    framework: str
    processes: int
    negatives: float | None = None
    classes: int = 203_094
    embedding: int = 512
    batch: int = 128
    steps: int = 3
    device: str = "cpu"

    @property
    def exchanged(self) -> int:
        """Bytes of the tensors that a step gathers or sums over the processes, by what the head is meant to exchange: labels
        int64 and descriptors, the descriptors' gradient, per image the largest logit and four sums, and the gradient's norm in
        float64. Neither classes nor processes are in it.
        """
        if self.processes == 1:
            return 0
        return self.batch * (8 + 2 * 4 * self.embedding + 4 * (1 + 4)) + 8

    @property
    def undivided(self) -> int:
        """Bytes of the class weights' gradient, which undivided data parallelism would sum."""
        return 4 * self.classes * self.embedding if self.processes > 1 else 0


def measure(job: Job) -> dict:
    """The job and its figures, the largest of any process: {…, "peak_mib", "before_mib", "exchanged_bytes", "best_ms", "losses"}.

    Raises:
        ZooError: a process failed, or their losses differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(dataclasses.asdict(job) | {"folder": folder})
        threads = max(1, len(os.sched_getaffinity(0)) // job.processes)
        environment = module_environment() | {"OMP_NUM_THREADS": str(threads)}
        done = run_command(_command(job, text, folder), capture_output=True, env=environment)
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("[0-9]*.json"))]
    if done.returncode or len(found) != job.processes:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise ZooError(
            f"{job}: {len(found)} of its processes finished ({ending(done.returncode)}):\n" + "\n".join(said)
        )
    if any(one["losses"] != found[0]["losses"] for one in found):
        raise ZooError(f"{job}: the processes have different losses: {[one['losses'] for one in found]}")
    return dataclasses.asdict(job) | {
        "peak_mib": round(max(one["peak"] for one in found) / _MIB),
        "before_mib": round(max(one["before"] for one in found) / _MIB),
        "exchanged_bytes": max(one["exchanged"] for one in found),
        "best_ms": round(
            1000 * min(max(seconds) for seconds in zip(*(one["seconds"][1:] for one in found), strict=True))
        ),
        "losses": found[0]["losses"],
    }


def _command(job: Job, text: str, folder: str) -> Sequence[str]:
    if job.processes == 1:
        return module_command("benchmarks.head_process", text)
    count = ("--nproc_per_node", job.processes)
    if job.framework == "torch":
        options = ("--standalone", *count, "-m", "benchmarks.head_process", text)
        return module_command("torch.distributed.run", *options)
    script = Path(__file__).resolve().with_name("head_process.py")
    return module_command("paddle.distributed.launch", *count, "--log_dir", folder, script, text)


def table(rows: list[dict]) -> str:
    """One line per job."""
    head = [
        *(
            "framework",
            "device",
            "processes",
            "negatives",
            "memory of a process, MiB",
            "… of the head",
            "exchanged in a step, kB",
        ),
        "undivided, kB",
    ]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for row in rows:
        job = Job(**{field.name: row[field.name] for field in dataclasses.fields(Job)})
        share = "all" if job.negatives is None else f"{job.negatives:.0%}"
        cells = [job.framework, job.device, str(job.processes), share]
        cells += [f"{row['peak_mib']:,}", f"{row['peak_mib'] - row['before_mib']:,}"]
        cells += [f"{row['exchanged_bytes'] / 1000:,.0f}", f"{job.undivided / 1000:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frameworks", nargs="+", default=FRAMEWORKS, choices=FRAMEWORKS)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=Job.batch, help="images of all processes together")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/head.json")
    given = parser.parse_args()
    rows = []
    for framework in given.frameworks:
        for processes in given.processes:
            for negatives in (None, 0.1):
                job = Job(framework, processes, negatives, batch=given.batch, device=given.device)
                row = measure(job)
                if row["exchanged_bytes"] != job.exchanged:
                    raise ZooError(f"{job}: it exchanged {row['exchanged_bytes']} bytes, not {job.exchanged}")
                rows.append(row)
                log(f"{job}: {row['peak_mib']} MiB, {row['exchanged_bytes']} bytes")
    print(table(rows))
    print(write_results("head", {"rows": rows}, given.out))


if __name__ == "__main__":
    run(main)
