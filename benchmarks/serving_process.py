"""One contender's process, which runs only during its own turn."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from benchmarks.rivals import Environment

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """A long-lived process of `serving_worker.py`'s protocol.

    Between its turns it is stopped by SIGSTOP: threads that spin while they wait for work, such as those of OpenMP
    and ONNX Runtime, then take no time from others, and each library keeps its default during its own turn.

    Attributes:
        forms: {form: error or None}; empty if the whole contender failed.
        versions: {package: version}.
        pid: the process.
        error: why the whole contender failed, or None.
    """

    def __init__(self, environment: Environment, script: tuple[str, ...], job: dict, log: Path) -> None:
        """Starts it and waits until it has built its forms.

        Args:
            environment: the python, and extra environment variables.
            script: what the python runs.
            job: its argument.
            log: file for its stderr.
        """
        self._log = log
        with open(log, "w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [str(environment.python), *script, json.dumps(job)],
                cwd=ROOT,
                env=os.environ | environment.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.pid = self._process.pid
        ready = self._answer()
        self.forms = ready.get("forms", {})
        self.versions = ready.get("versions", {})
        self.error = ready.get("error")

    def ask(self, **request: object) -> dict:
        """Wakes it for one request: {"seconds": […], "output": […]}, or {"error"}."""
        self._signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # the process has ended; `_answer` reports how
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()  # reaches a stopped process too
        self._process.communicate()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            said = [
                line for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
            ]
            return {"error": f"ended with status {status}: {said[-1][:160] if said else 'no output'}"}
        self._signal(signal.SIGSTOP)
        os.waitid(
            os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT
        )  # wait until all of its threads have stopped
        return json.loads(line)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
