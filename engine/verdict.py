"""One kind of verdict for comparison and certification: lines by name, passed or not; it prints as its table."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Line(NamedTuple):
    """One quantity. Numbers that do not apply are None."""

    measured: float | str
    exact: float | str
    error: float | None = None  # standard error of the difference
    z: float | None = None  # (measured - exact - step_bias)/error as a standard normal deviate
    step_bias: float | None = None  # bias predicted for this step size
    passed: bool | None = True  # None: for information
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """Lines by name, and what no line sees. `passed` is true when every line passed."""

    title: str
    lines: dict[str, Line]
    flags: tuple[str, ...] = field(default=())
    rule: str = ""

    @property
    def passed(self) -> bool:
        """Whether every line passed."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the lines that did not pass."""
        return tuple(name for name, line in self.lines.items() if line.passed is not None and not line.passed)

    def require(self) -> "Verdict":
        """Itself if everything passed; else raises AssertionError with the table."""
        if not self.passed:
            raise AssertionError(str(self))
        return self

    def __getitem__(self, name: str) -> Line:
        return self.lines[name]

    def __str__(self) -> str:
        columns = [("", "measured", "exact", "error", "z", "step bias", "")]
        for name, line in self.lines.items():
            mark = "" if line.passed is None else "passed" if line.passed else "FAILED"
            numbers = (_show(line.measured), _show(line.exact), _show(line.error, 2), _show(line.z, 2))
            columns.append((name, *numbers, _show(line.step_bias, 3), mark + (f" ({line.note})" if line.note else "")))
        keep = [i for i in range(7) if i == 6 or any(row[i] for row in columns[1:])]
        widths = [max(len(row[i]) for row in columns) for i in range(7)]
        table = ["  ".join(r[i].ljust(widths[i]) if i in (0, 6) else r[i].rjust(widths[i]) for i in keep).rstrip()
                 for r in columns]  # fmt: skip
        return "\n".join([self.title, *table, *(f"! {flag}" for flag in self.flags), self._summary() + self.rule])

    def _summary(self) -> str:
        open_lines = sum(line.passed is None for line in self.lines.values())
        if self.failures:
            return "NOT passed: " + ", ".join(self.failures)
        if open_lines == len(self.lines):
            return "nothing was decided"
        return "all passed" + (f", {open_lines} not decided" if open_lines else "")

    __repr__ = __str__


def _show(value: float | str | None, digits: int = 6) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.{digits}g}"
