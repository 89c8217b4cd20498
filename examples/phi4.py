"""A chain of double wells orders over longer and longer distances as it cools, and the transfer operator knows by how much.

    U(φ) = Σᵢ (φᵢ₊₁ - φᵢ)²/2 + r φᵢ²/2 + u φᵢ⁴/4,    C(k) = <φ₀ φ_k>,    <m²> = Σ_k C(k)/N,  m the mean of φ

Correlations, energy and heat capacity along a ladder of temperatures in one call, against the eigenvalues of one
200 × 200 matrix. In one dimension there is no phase transition: at every temperature kinks cut the order off.
Run by `make examples`; the picture goes to out/phi4.png.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from judging import OUT, judge, report, run

from heatbath import engine, integrators, potentials
from heatbath.engine import observables

CHAIN = potentials.Phi4Chain(sites=24, r=-1.0, u=1.0)
TEMPERATURES = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0])
FAR = CHAIN.sites // 2


def correlation(position: Any) -> jax.Array:
    """φᵢφᵢ₊ₖ averaged over the sites i, for k = 0 … N/2."""
    return jnp.stack([jnp.mean(position * jnp.roll(position, -k)) for k in range(FAR + 1)])


def order(position: Any) -> jax.Array:
    """The square of the mean field."""
    return jnp.mean(position) ** 2


def ladder(particles: int, steps: int) -> engine.Run:
    """All temperatures in one call, first to equilibrium, then measured."""
    bath = integrators.BAOAB(step_size=0.08, friction=0.5, temperature=engine.sweep(TEMPERATURES))
    start = engine.scatter(jnp.zeros(CHAIN.sites), particles, scale=0.5, key=1)
    run = engine.simulate(CHAIN, bath, start, steps=max(1_000, steps // 3), key=0, observables=())
    watched = {"correlation": correlation, "order": order, "energy": observables.potential_energy}
    measured = {name: observables.Mean(measure, every=10) for name, measure in watched.items()}
    return engine.simulate(run, steps=steps, observables=measured)


def main(particles: int = 512, steps: int = 6_000, out: pathlib.Path | None = OUT) -> bool:
    """Whether every rung is what the transfer operator says. out: where the picture goes, if anywhere."""
    run = ladder(particles, steps)
    found, order, energy = (run.observables[name] for name in ("correlation", "order", "energy"))
    lines = {}
    for rung, t in enumerate(TEMPERATURES):
        state, exact = CHAIN.equilibrium(t), CHAIN.correlation(t)
        rows = {
            "<φ²>": (found.mean[rung, 0], exact[0], found.error[rung, 0]),
            "C(1)": (found.mean[rung, 1], exact[1], found.error[rung, 1]),
            f"C({FAR})": (found.mean[rung, FAR], exact[FAR], found.error[rung, FAR]),
            "<m²>": (order.mean[rung], exact.mean(), order.error[rung]),
            "<U>": (energy.mean[rung], state.mean_energy, energy.error[rung]),
            "heat capacity": (energy.variance[rung] / t**2, state.heat_capacity, energy.variance_error[rung] / t**2),
        }
        lines |= {f"{name}, T = {t:g}": judge(*row, dof=energy.dof) for name, row in rows.items()}
    passed = report(f"φ⁴ chain of {CHAIN.sites} sites, {particles:,} particles on each rung", lines)
    if out is not None:
        draw(out / "phi4.png", run)
    return passed


def draw(path: pathlib.Path, run: engine.Run) -> None:
    """Chains as they are, cold and hot; correlations; order; energy and heat capacity."""
    from pictures import BLUE, GOLD, GREEN, INK, RED, plt

    figure = plt.figure(figsize=(11, 7.4))
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.25))
    chains = grid[0, 0].subgridspec(1, 2)
    image = None
    for place, rung in enumerate((0, len(TEMPERATURES) - 1)):
        axis = figure.add_subplot(chains[place])
        image = axis.imshow(np.asarray(run.positions[rung])[:40], cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        axis.set(xlabel="site", title=f"T = {TEMPERATURES[rung]:g}", yticks=[], ylabel="" if place else "40 particles")
    figure.colorbar(image, ax=figure.axes, label="φ", shrink=0.9)

    axis = figure.add_subplot(grid[0, 1])
    found, colors = run.observables["correlation"], plt.colormaps["plasma"](np.linspace(0, 0.85, len(TEMPERATURES)))
    k = np.arange(FAR + 1)
    for t, color, mean, error in zip(TEMPERATURES, colors, found.mean, found.error, strict=True):
        axis.plot(k, CHAIN.correlation(t)[: FAR + 1], color=color, lw=1.1)
        seen = mean > 3 * error
        label = f"T = {t:g}, ξ = {CHAIN.correlation_length(t):.2g}"
        axis.errorbar(k[seen], mean[seen], 2 * error[seen], fmt="o", ms=3.5, color=color, label=label)
    axis.set(yscale="log", ylim=(2e-3, 2), xlabel="distance k", ylabel="C(k) = ⟨φ₀ φ_k⟩",
             title="correlations (lines: transfer operator; points ± 2 s.e.)")  # fmt: skip
    axis.legend(fontsize=7, loc="lower left")

    fine = np.geomspace(TEMPERATURES[0] * 0.95, TEMPERATURES[-1] * 1.05, 30)
    states = [CHAIN.equilibrium(t) for t in fine]
    correlations = np.array([CHAIN.correlation(t) for t in fine])
    n, energy, order = CHAIN.sites, run.observables["energy"], run.observables["order"]
    axis = figure.add_subplot(grid[1, 0])
    axis.plot(fine, correlations[:, 0], color=INK, lw=1.2, label="exact")
    axis.plot(fine, correlations.mean(1), color=INK, lw=1.2)
    points = {"fmt": "o", "ms": 4}
    axis.errorbar(TEMPERATURES, found.mean[:, 0], 2 * found.error[:, 0], color=GREEN, label="⟨φ²⟩, a site", **points)
    axis.errorbar(TEMPERATURES, order.mean, 2 * order.error, color=GOLD, label="⟨m²⟩, the mean field", **points)
    axis.set(ylim=(0, 1.25), ylabel="order", title="each site keeps its well, the chain does not")
    panels = grid[1, 1].subgridspec(1, 2)
    values = (
        ("⟨U⟩ a site", [s.mean_energy / n for s in states], energy.mean / n, energy.error / n, BLUE, "energy"),
        ("Var U/T² a site", [s.heat_capacity / n for s in states], energy.variance / TEMPERATURES**2 / n,
         energy.variance_error / TEMPERATURES**2 / n, RED, "heat capacity"),
    )  # fmt: skip
    axes = [axis]
    for place, (label, exact, mean, error, color, title) in enumerate(values):
        axis = figure.add_subplot(panels[place])
        axis.plot(fine, exact, color=INK, lw=1.2, label="exact")
        axis.errorbar(TEMPERATURES, mean, 2 * error, color=color, label="measured, ± 2 s.e.", **points)
        axis.set(ylabel=label, title=title)
        axes.append(axis)
    for axis in axes:
        axis.set(xlabel="temperature", xscale="log")
        axis.set_xticks([0.25, 0.5, 1, 2], labels=["0.25", "0.5", "1", "2"])
        axis.minorticks_off()
        axis.legend(fontsize=7.5)
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
