"""Contestants in processes of their own that take turns call by call."""

import collections
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent
TURNS = 5


class Worker:
    """A process that builds and times calls; see `worker.py`."""

    def __init__(self, devices: int, flags: str, width: str = "float32") -> None:
        command = [sys.executable, HERE / "worker.py", str(devices), flags, width]
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def send(self, **question: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will say so
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}


class Field:
    """All contestants and their workers."""

    def __init__(self) -> None:
        self.workers = {}

    def worker(self, kind: tuple, seat: int) -> Worker:
        """A process of a kind (devices, flags[, width]); seats tell those apart that are otherwise alike."""
        if (kind, seat) not in self.workers or self.workers[kind, seat].process.poll() is not None:
            self.workers[kind, seat] = Worker(*kind)
        return self.workers[kind, seat]

    def race(self, entrants: dict[str, tuple[tuple, str, dict]]) -> dict[str, float | str]:
        """Median seconds a step of each, in turns, or what kept it from taking part; entrants: name -> (kind of worker,
        maker, options)."""
        taken, workers = collections.Counter(), {}
        for name, (kind, maker, options) in entrants.items():  # all compile at once
            workers[name] = self.worker(kind, taken[kind])
            workers[name].send(make=maker, **{"with": options})
            taken[kind] += 1
        errors = {name: answer["error"] for name, w in workers.items() if "error" in (answer := w.answer())}
        times = collections.defaultdict(list)
        for _ in range(TURNS):
            for name, worker in workers.items():
                if name in errors:
                    continue
                worker.send(time=True)
                answer = worker.answer()
                if "error" in answer:
                    errors[name] = answer["error"]
                else:
                    times[name].append(answer["seconds"])
        median = lambda name: statistics.median(times[name]) / entrants[name][2]["steps"]  # noqa: E731
        return {name: errors[name] if name in errors else median(name) for name in entrants}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.communicate()
        self.workers = {}
