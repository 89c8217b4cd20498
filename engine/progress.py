"""Progress of a run, from the host: a rich bar on a terminal, else a plain line now and then; nothing for short runs."""

import importlib.util
import sys
import time
from typing import Any

HAS_RICH = importlib.util.find_spec("rich") is not None  # the extra heatbath[progress]

QUIET_SECONDS = 1.0  # nothing is shown before
LINE_SECONDS = 10.0  # between plain lines


class Progress:
    """A context in which `advance(steps)` is told of finished blocks; writes to stderr."""

    def __init__(self, *, total: int, label: str, enabled: bool) -> None:
        self.total, self.label, self.enabled, self.done = total, label, enabled, 0
        self.bar: Any = None
        self.began = self.first = self.last = time.monotonic()
        self.first_done = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, steps: int) -> None:
        """So many steps more are done."""
        self.done += steps
        now = time.monotonic()
        if self.first_done == 0:  # the first block compiles; rates are counted from its end
            self.first, self.first_done = now, self.done
        if not self.enabled or now - self.began < QUIET_SECONDS:
            return
        rate = (self.done - self.first_done) / max(now - self.first, 1e-9)
        if HAS_RICH and sys.stderr.isatty():
            self._draw(rate)
        elif now - self.last >= LINE_SECONDS:
            self.last = now
            left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
            print(f"{self.label}: step {self.done:,} of {self.total:,}, {rate:,.0f} steps/s{left}", file=sys.stderr)

    def _draw(self, rate: float) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            more = (TextColumn("{task.fields[rate]} steps/s"), TimeRemainingColumn())
            self.bar = Bar(*columns, *more, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.label, total=self.total, rate="")
            self.bar.start()
        self.bar.update(self.task, completed=self.done, rate=f"{rate:,.0f}")
