"""What a benchmark returns: a tidy array, its ranking, its verdict; printed, plotted, saved, loaded."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from .fits import Order, order_of, work
from .observables.statistics import normal_score
from .verdict import Line, Verdict

# one row: an energy, a scheme, an observable, a step size
FIELDS = np.dtype([
    ("potential", "U64"), ("integrator", "U64"), ("observable", "U32"), ("step_size", float),
    ("exact", float),  # equilibrium average
    ("bias", float), ("bias_error", float),  # measured
    ("predicted", float),  # bias of the scheme's exact law at this step; NaN where none is known
    ("law", "U32"),  # by which method; empty where none is known
    ("variance", float),  # of the observable
    ("samples_per_gradient", float),  # independent ones
    ("gradients", int),  # a step
    ("work", int),  # gradients of one particle, in the window that was averaged
    ("seconds", float),  # of a step of one particle
    ("divergence", float), ("divergence_error", float),  # KL of the last snapshot's histograms to the Gibbs state
    ("largest_step", float), ("reach", "U12"),  # "exact" or "searched"
    ("declared_order", float),  # of the stationary bias; NaN where none is declared
])  # fmt: skip

RANKS = np.dtype([
    ("potential", "U64"), ("rank", int), ("integrator", "U64"), ("gradients", float), ("seconds", float),
    ("step_size", float), ("bias", float), ("law", "U32"), ("order", float), ("order_error", float),
    ("samples_per_gradient", float), ("short", bool), ("divergence", float), ("largest_step", float), ("reach", "U12"),
])  # fmt: skip

GROUPS = 64  # of particles, whose spread is the error of a bias
FEWEST = 5.0  # independent samples a particle, below which a run is too short to tell a bias
FALSE_ALARM = 1e-4  # of a verdict on a benchmark that is right


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """What `benchmark` found; prints as a ranked table. `a + b` joins the rows of two.

    rows: a structured array, one row an energy, scheme, observable and step size. Fields: potential, integrator,
    observable, step_size; exact, the equilibrium average; bias, bias_error, measured; predicted, the bias of the scheme's
    exact law (NaN where none is known) and law, its method; variance of the observable; samples_per_gradient, independent
    ones, known to 18 %, as the spread of 64 groups is; gradients of a step; work, gradients of one particle in the window
    that was averaged; seconds of a step of one particle, nothing observed; divergence, divergence_error, the KL of the last
    snapshot's histograms of the first coordinates to the Gibbs state; largest_step the scheme bears and reach, "exact" or
    "searched"; declared_order.
    A run that left the finite numbers has NaN. precision: of the ranking, in standard deviations of the observable.
    """

    rows: np.ndarray
    precision: float = 0.1

    @property
    def potentials(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(self.rows["potential"].tolist()))

    @property
    def integrators(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(self.rows["integrator"].tolist()))

    def of(self, potential: str, integrator: str, observable: str = "energy") -> np.ndarray:
        """The rows of one scheme on one energy, in order of increasing steps. Raises KeyError where there are none."""
        r = self.rows
        chosen = r[(r["potential"] == potential) & (r["integrator"] == integrator) & (r["observable"] == observable)]
        if not len(chosen):
            raise KeyError(f"no rows of {integrator!r} on {potential!r} for {observable!r}")
        return np.sort(chosen, order="step_size")

    def order(self, potential: str, integrator: str, observable: str = "energy") -> Order:
        """The fitted order of the bias in the step size, with its standard error; NaN where no bias is resolved."""
        rows = self.of(potential, integrator, observable)
        error = np.where(np.isfinite(rows["predicted"]), 0.0, np.where(short(rows), np.inf, rows["bias_error"]))
        return order_of(rows["step_size"], best_bias(rows), error)

    def samples_per_second(self) -> np.ndarray:
        """Independent samples a second of one core's worth of work, of every row."""
        return self.rows["samples_per_gradient"] * self.rows["gradients"] / self.rows["seconds"]

    def gradients_for(self, potential: str, integrator: str, observable: str = "energy", precision: Any = None) -> Any:
        """Gradients of all particles for a root mean square error of `precision` standard deviations: of every step."""
        rows = self.of(potential, integrator, observable)
        error = (self.precision if precision is None else precision) * np.sqrt(np.nanmax(rows["variance"], initial=0.0))
        return work(certain_bias(rows), rows["variance"], rows["samples_per_gradient"], error)

    def ranking(self, observable: str = "energy", *, by: str = "gradients") -> np.ndarray:
        """A structured array, one row a potential and scheme, best first; by "gradients" or "seconds" for the precision.

        gradients, seconds: at the best of the steps that were tried; infinite where none is precise enough, ordered then
        by the least bias. bias there in standard deviations, exact where `law` says so; short where a particle gave fewer
        than five independent samples, too few to tell a bias from a start in equilibrium.
        """
        if by not in (places := {"gradients": 3, "seconds": 4}):
            raise ValueError(f'by must be "gradients" or "seconds"; got {by!r}')
        found = []
        for potential in self.potentials:
            lines = [line for name in self.integrators for line in self._line(potential, name, observable)]
            lines.sort(key=lambda line: (line[places[by]], abs(line[6]) if np.isfinite(line[6]) else np.inf))
            found += [(*line[:1], rank, *line[2:]) for rank, line in enumerate(lines, 1)]
        return np.array(found, RANKS)

    def _line(self, potential: str, integrator: str, observable: str) -> Iterator[tuple]:
        try:
            rows = self.of(potential, integrator, observable)
        except KeyError:
            return
        needed = self.gradients_for(potential, integrator, observable)
        deviation = np.abs(best_bias(rows)) / np.sqrt(rows["variance"])
        if np.isfinite(needed).any():
            best = int(np.argmin(needed))
        else:
            best = int(np.nanargmin(deviation)) if np.isfinite(deviation).any() else 0
        row, order = rows[best], self.order(potential, integrator, observable)
        yield (
            potential, 0, integrator, needed[best], needed[best] / row["gradients"] * row["seconds"], row["step_size"],
            best_bias(rows)[best] / np.sqrt(row["variance"]), row["law"], order.value, order.error,
            row["samples_per_gradient"], short(rows)[best], row["divergence"], row["largest_step"], row["reach"],
        )  # fmt: skip

    @property
    def verdict(self) -> Verdict:
        """Whether every measured bias is the one that the scheme's exact law predicts, where a law is known."""
        r = self.rows[np.isfinite(self.rows["predicted"]) & (self.rows["bias_error"] > 0)]
        limit = NormalDist().inv_cdf(1 - FALSE_ALARM / 2 / max(len(r), 1))
        lines = {}
        for row in r:
            z = float(normal_score((row["bias"] - row["predicted"]) / row["bias_error"], GROUPS - 1))
            lines[f"{row['integrator']} on {row['potential']}, {row['observable']}, h = {row['step_size']:.3g}"] = Line(
                float(row["exact"] + row["bias"]), float(row["exact"]), float(row["bias_error"]), z,
                float(row["predicted"]), abs(z) <= limit,
            )  # fmt: skip
        return Verdict("measured biases against those of the exact laws", lines)

    @property
    def passed(self) -> bool:
        """Whether the verdict passed."""
        return self.verdict.passed

    def plot(
        self, path: Any = None, *, potential: str | None = None, observable: str = "energy", only: Any = None
    ) -> Any:
        """A matplotlib figure, written to `path` if given: bias, error, efficiency; one row of panels a potential."""
        from .picture import picture

        return picture(self, path, [potential] if potential else self.potentials, observable, only)

    def save(self, path: Any) -> None:
        """Write all rows as `.csv`, or with the precision as `.json`; `Benchmark.load` reads both."""
        path, names = Path(path), self.rows.dtype.names or ()
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(names)
                writer.writerows(row.item() for row in self.rows)
        elif path.suffix == ".json":
            rows = [json.dumps(_plain(row.item()), ensure_ascii=False) for row in self.rows]
            head = f'{{"precision": {self.precision!r},\n "fields": {json.dumps(names)},\n "rows": [\n  '
            path.write_text(head + ",\n  ".join(rows) + "]}\n")
        else:
            raise ValueError(f"path must end in .csv or .json; got {str(path)!r}")

    @staticmethod
    def load(path: Any) -> "Benchmark":
        """What `save` wrote."""
        path, names = Path(path), FIELDS.names or ()
        if path.suffix == ".json":
            found = json.loads(path.read_text())
            header, rows, precision = found["fields"], found["rows"], found["precision"]
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                header, *rows = csv.reader(file)
            precision = 0.1
        else:
            raise ValueError(f"path must end in .csv or .json; got {str(path)!r}")
        if list(header) != list(names):
            raise ValueError(f"{path} holds no benchmark of this version: its columns are {', '.join(header)}")
        kinds = [FIELDS[name].type for name in names]
        read = lambda kind, value: np.nan if value is None else kind(value)  # noqa: E731
        return Benchmark(rows=np.array([tuple(map(read, kinds, row)) for row in rows], FIELDS), precision=precision)

    def __add__(self, other: "Benchmark") -> "Benchmark":
        return Benchmark(rows=np.concatenate([self.rows, other.rows]), precision=self.precision)

    def __repr__(self) -> str:
        return "\n\n".join(table(self, potential) for potential in self.potentials)


def short(rows: np.ndarray) -> np.ndarray:
    """Where particles, which start in equilibrium, had no time to show their scheme's bias: its measure is too small."""
    return ~np.isfinite(rows["predicted"]) & ~(rows["samples_per_gradient"] * rows["work"] >= FEWEST)


def best_bias(rows: np.ndarray) -> np.ndarray:
    """The exact bias where it is known, else the measured one; NaN where the run was lost."""
    exact = np.isfinite(rows["predicted"]) & np.isfinite(rows["bias"])
    return np.where(exact, rows["predicted"], rows["bias"])


def certain_bias(rows: np.ndarray) -> np.ndarray:
    """`best_bias`, with what a measured bias owes to its own error taken off its square."""
    measured = np.sqrt(np.maximum(rows["bias"] ** 2 - rows["bias_error"] ** 2, 0.0))
    return np.where(np.isfinite(rows["predicted"]), best_bias(rows), measured)


def table(benchmark: Benchmark, potential: str, observable: str = "energy") -> str:
    """The ranking on one energy as text."""
    ranks = benchmark.ranking(observable)
    ranks = ranks[ranks["potential"] == potential]
    rows = [("", "integrator", "gradients", "µs", "step", "bias/σ", "order", "samples/gradient", "KL", "largest step")]
    for r in ranks:
        order = f"{r['order']:.2f} ± {r['order_error']:.2f}" if np.isfinite(r["order"]) else "-"
        rows.append((
            str(r["rank"]), r["integrator"], _short(r["gradients"]), _short(r["seconds"] * 1e6), _short(r["step_size"]),
            _short(r["bias"]) + ("*" if r["law"] else "~" if r["short"] else ""), order, _short(r["samples_per_gradient"]),
            _short(r["divergence"]), _short(r["largest_step"]) + ("*" if r["reach"] == "exact" else ""),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) if i == 1 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in rows]  # fmt: skip
    title = f"{potential}: gradients and time for the mean {observable} to {benchmark.precision:g} standard deviations"
    return "\n".join([title, *(line.rstrip() for line in lines), "* exact, not measured; ~ too short a run to tell"])


def _short(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _plain(row: tuple) -> list:
    """Numbers as JSON knows them: null where none is."""
    return [None if isinstance(v, float) and np.isnan(v) else v for v in row]
