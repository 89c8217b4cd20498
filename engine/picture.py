"""The picture of a benchmark: bias against step, error against work and time, efficiency against step."""

from typing import Any

import numpy as np

from .fits import error_after
from .scores import Benchmark, best_bias, certain_bias

BUDGETS = np.geomspace(10, 1e6, 101)  # gradients
NOTHING = 1e-6  # standard deviations, below which an exact bias is rounding
MARKS = "osD^v<>PX*hpd"


def picture(benchmark: Benchmark, path: Any, potentials: list[str], observable: str, only: Any) -> Any:
    """One row of four panels a potential; see `Benchmark.plot`. Raises ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Benchmark.plot needs matplotlib: pip install "heatbath[demo]"') from error
    if unknown := [p for p in potentials if p not in benchmark.potentials]:
        raise ValueError(f"no rows of {', '.join(unknown)}; there are {', '.join(benchmark.potentials)}")
    chosen = [name for name in (benchmark.integrators if only is None else only) if name in benchmark.integrators]
    if not chosen:
        raise ValueError(f"only names none of {', '.join(benchmark.integrators)}; got {only!r}")
    from matplotlib import colormaps

    colors = colormaps["tab20"]
    height = max(3.6, 0.19 * len(chosen) + 0.8)
    figure = Figure(figsize=(17, height * len(potentials)), layout="constrained")
    panels = np.atleast_2d(figure.subplots(len(potentials), 4, squeeze=False))
    for row, potential in zip(panels, potentials, strict=True):
        for i, name in enumerate(chosen):
            style = {
                "color": colors(i % 20),
                "marker": MARKS[(i // 10 + i) % len(MARKS)],
                "markersize": 4,
                "linewidth": 1,
            }
            _draw(benchmark, row, potential, name, observable, style)
        _label(row, potential, observable)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _draw(benchmark: Benchmark, panels: Any, potential: str, name: str, observable: str, style: dict) -> None:
    try:
        rows = benchmark.of(potential, name, observable)
    except KeyError:
        return
    spread, h = np.sqrt(rows["variance"]), rows["step_size"]
    bias, order = np.abs(best_bias(rows)) / spread, benchmark.order(potential, name, observable)
    exact = np.isfinite(rows["predicted"])
    # what is within its error is no point of a slope
    seen = np.where(exact, bias > NOTHING, bias > 2 * rows["bias_error"] / spread)
    slope = f", order {order.value:.1f}" if np.isfinite(order.value) else ""
    note = ", no bias" if exact.all() and not seen.any() else slope
    panels[0].plot(h[seen], bias[seen], label=name + note, **style)
    curve = error_after(BUDGETS, certain_bias(rows), rows["variance"], rows["samples_per_gradient"]) / np.nanmax(spread)
    seconds = float(np.median(rows["seconds"] / rows["gradients"]))
    line = {**style, "marker": ""}
    panels[1].plot(BUDGETS, curve, **line)
    panels[2].plot(BUDGETS * seconds, curve, **line)
    near = bias < 1  # samples of another law are worth nothing
    panels[3].plot(h[near], rows["samples_per_gradient"][near], **style)


def _label(panels: Any, potential: str, observable: str) -> None:
    titles = ("bias", "error after gradients", "error after time", "efficiency")
    across = ("step size", "gradients", "seconds", "step size")
    up = (f"|bias of the mean {observable}| / σ", "root mean square error / σ", "", "independent samples a gradient")
    titles = (f"{potential}: {titles[0]}", *titles[1:])
    for panel, title, x, y in zip(panels, titles, across, up, strict=True):
        panel.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        panel.set_title(title, fontsize=9)
        panel.grid(alpha=0.2)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[3].legend(handles, labels, fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1.02), borderaxespad=0.0)
