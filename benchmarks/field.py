"""Contestants in processes of their own, by compiler flags and devices, that take turns call by call."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent


class Worker:
    """A process that builds and times calls; see `worker.py`."""

    def __init__(self, devices: int, flags: str, width: str = "float32", seat: int = 0) -> None:
        del seat  # tells workers apart that are otherwise alike
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
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}


class Field:
    """All contestants and their workers."""

    def __init__(self, repeats: int) -> None:
        self.repeats, self.workers = repeats, {}

    def worker(self, *kind: Any) -> Worker:
        if kind not in self.workers or self.workers[kind].process.poll() is not None:
            self.workers[kind] = Worker(*kind)
        return self.workers[kind]

    def race(self, entrants: dict[str, tuple[tuple, str, dict]]) -> dict[str, float | str]:
        """Median seconds a step of each, in turns; entrants: name -> (kind of worker, maker, options)."""
        found: dict[str, float | str] = {}
        times: dict[str, list[float]] = {}
        groups: dict[tuple, list[str]] = {}
        for name, (kind, _, _) in entrants.items():
            groups.setdefault(kind, []).append(name)
        # a worker holds one piece of work: those that share one race in rounds
        for turn in range(max(map(len, groups.values()))):
            here = {names[turn]: kind for kind, names in groups.items() if turn < len(names)}
            ready = []
            for name, kind in here.items():  # all compile at once
                _, maker, options = entrants[name]
                self.worker(*kind).send(make=maker, **{"with": options})
            for name, kind in here.items():
                answer = self.worker(*kind).answer()
                if "error" in answer:
                    found[name] = answer["error"]
                else:
                    ready.append((name, kind))
                    times[name] = []
            for _ in range(self.repeats):
                for name, kind in ready:
                    self.worker(*kind).send(time=True)
                    times[name].append(self.worker(*kind).answer().get("seconds", float("nan")))
        for name, seconds in times.items():
            found[name] = statistics.median(seconds) / entrants[name][2]["steps"]
        return {name: found[name] for name in entrants}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.communicate()
        self.workers = {}
