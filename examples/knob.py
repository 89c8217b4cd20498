"""Temperature is the knob between energy and entropy: cold particles choose the deep well, hot ones the flat one.

    U(x, y) = barrier (x² - 1)² + D (x + 1)/2 + exp(-s x) |y|²/2,     n coordinates y

The well at x = -1 is deeper by D and sharper; the one at +1 is flat. Averaged over y the force along x is

    -F'(x) = -4 barrier x (x² - 1) - D/2 + n s T/2

and its last term, the entropic force, grows with T, whatever x is. It outweighs D/2 above T* = D/(n s).
Run by `make examples`; the picture goes to out/knob.png.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from judging import OUT, judge, report, run

from heatbath import engine, integrators, potentials
from heatbath.engine import observables

WELL = potentials.EntropicWell(barrier=1.0, offset=1.0, softening=1.0, transverse=2)
TEMPERATURES = WELL.crossover * 2 ** np.linspace(-1, 1, 9)
PLACES = (-1.0, 0.0, 1.0)  # where the force is measured


@engine.pytree
class Pinned(engine.Potential):
    """A landscape at a fixed first coordinate x: an energy of the others alone."""

    landscape: engine.Potential
    x: Any = engine.number()

    def __call__(self, position: Any) -> jax.Array:
        return self.landscape(jnp.concatenate([jnp.reshape(self.x, (1,)), position]))


@engine.pytree
class Force(observables.Measurement):
    """-∂U/∂x on the pinned coordinate."""

    def __call__(self, potential: Any, integrator: Any, state: Any) -> jax.Array:
        return -jax.grad(lambda x: Pinned(landscape=potential.landscape, x=x)(state.position))(potential.x)


def energetic(x: Any) -> Any:
    """The part of the mean force that comes from the energy along x."""
    return -4 * WELL.barrier * x * (x**2 - 1) - WELL.offset / 2


def entropic(temperature: Any) -> Any:
    """The part that comes from the room in y."""
    return WELL.transverse * WELL.softening * temperature / 2


@functools.cache
def in_flat(temperature: float) -> float:
    """P(x > 0), exactly."""
    return float(WELL.equilibrium(temperature).bin_probabilities(np.linspace(0, 4, 41)).sum())


def population(particles: int, steps: int) -> Any:
    """The share of time spent in the flat well on every rung: all are released in the deep one, and forget it."""
    bath = integrators.BAOAB(step_size=0.1, friction=1.0, temperature=engine.sweep(TEMPERATURES))
    start = engine.scatter(jnp.array([-1.0, 0.0, 0.0]), particles, scale=0.3, key=1)
    flat = observables.Mean(lambda x: (x[0] > 0).astype(x.dtype))
    run = engine.simulate(WELL, bath, start, steps=max(2_000, steps // 3), key=0, observables=())
    return engine.simulate(run, steps=steps, observables=flat)


def forces(particles: int, steps: int) -> Any:
    """The mean force at three fixed x on every rung, in one call: results (x, temperature)."""
    x, temperature = (a.ravel() for a in np.meshgrid(PLACES, TEMPERATURES, indexing="ij"))
    bath = integrators.BAOAB(step_size=0.2, friction=1.0, temperature=engine.sweep(temperature))
    start = engine.scatter(jnp.zeros(WELL.transverse), particles, scale=0.7, key=2)
    pinned = Pinned(landscape=WELL, x=engine.sweep(x))
    run = engine.simulate(pinned, bath, start, steps=200, key=3, observables=())
    return engine.simulate(run, steps=steps, observables=observables.Mean(Force())).observables


def force_lines(force: Any) -> dict[str, engine.Line]:
    """Every mean force against the sum of its two parts."""
    lines = {}
    rows = zip(*(np.reshape(a, (len(PLACES), -1)) for a in (force.mean, force.error)), PLACES, strict=True)
    for means, errors, x in rows:
        for t, mean, error in zip(TEMPERATURES, means, errors, strict=True):
            line = judge(mean, energetic(x) + entropic(t), error, dof=force.dof)
            lines[f"force at x = {x:g}, T = {t:.3f}"] = line
    return lines


def main(particles: int = 1_500, steps: int = 6_000, out: pathlib.Path | None = OUT) -> bool:
    """Whether every population and every force is what it must be. out: where the picture goes, if anywhere."""
    flat = (run := population(particles, steps)).observables
    force = forces(particles, steps // 4)
    lines = force_lines(force)
    for t, mean, error in zip(TEMPERATURES, flat.mean, flat.error, strict=True):
        lines[f"P(x > 0), T = {t:.3f}"] = judge(mean, in_flat(t), error, dof=flat.dof)
    passed = report(f"energy against entropy: T* = {WELL.crossover:g}, {particles:,} particles on each rung", lines)
    if out is not None:
        draw(out / "knob.png", run, flat, force)
    return passed


def draw(path: pathlib.Path, run: Any, flat: Any, force: Any) -> None:
    """The landscape and where particles are; its free energy; the population; the two forces."""
    from pictures import BLUE, GOLD, GREEN, INK, RED, plt

    figure, ((where, free), (share, push)) = plt.subplots(2, 2, figsize=(10, 7.6))
    x, y = np.linspace(-1.9, 2.1, 161), np.linspace(-4, 4, 121)
    points = jnp.asarray(np.stack([*np.meshgrid(x, y), np.zeros((len(y), len(x)))], -1), jnp.float32)
    energy = np.asarray(jax.vmap(jax.vmap(WELL))(points))
    levels = np.array([0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6])
    where.contour(x, y, energy, levels=levels, colors=INK, linewidths=0.5, alpha=0.6)
    for rung, color in ((len(TEMPERATURES) - 1, RED), (0, BLUE)):
        at = np.asarray(run.positions[rung])[:1_000]
        label = f"particles at T = {TEMPERATURES[rung]:g}"
        where.scatter(at[:, 0], at[:, 1], s=3, color=color, alpha=0.5, lw=0, label=label)
    where.set(xlim=(-1.9, 2.1), ylim=(-4, 4), xlabel="x", ylabel="one of the y", title="a deep sharp well, a flat one")
    where.legend(fontsize=7.5, loc="upper left", markerscale=3)

    x = np.linspace(-1.7, 1.7, 300)
    for t, color in zip(WELL.crossover * np.array([0.5, 1, 2]), (BLUE, INK, RED), strict=True):
        along = WELL.barrier * (x**2 - 1) ** 2 + (WELL.offset - 2 * entropic(t)) * x / 2
        free.plot(x, along, color=color, lw=1.3, label=f"T = {t:g}" + (" = T*" if t == WELL.crossover else ""))
    free.set(xlabel="x", ylabel="F(x) + const", title="free energy along x", ylim=(-0.75, 2.2))
    free.legend(fontsize=7.5, loc="upper center")

    fine = np.linspace(TEMPERATURES[0] - 0.05, TEMPERATURES[-1] + 0.05, 40)
    share.plot(fine, [in_flat(t) for t in fine], color=INK, lw=1.2, label="exact")
    share.errorbar(TEMPERATURES, flat.mean, 2 * flat.error, fmt="o", ms=4, color=BLUE, label="measured, ± 2 s.e.")
    share.plot([WELL.crossover] * 2, [0, 0.5], color=GOLD, lw=1, ls="--", label="T* = D/(n s)")
    share.plot([fine[0], WELL.crossover], [0.5, 0.5], color=GOLD, lw=1, ls="--")
    share.set(xlabel="temperature", ylabel="P(x > 0)", title="who lives in the flat well", ylim=(0, 1))

    at_zero = PLACES.index(0.0)
    mean, error = (np.reshape(a, (len(PLACES), -1))[at_zero] for a in (force.mean, force.error))
    push.axhline(0, color=INK, lw=0.6)
    push.plot(fine, np.full_like(fine, energetic(0.0)), color=BLUE, lw=1.2, ls="--", label="energetic, -D/2")
    push.plot(fine, entropic(fine), color=RED, lw=1.2, ls="--", label="entropic, n s T/2")
    push.plot(fine, energetic(0.0) + entropic(fine), color=INK, lw=1.2, label="both, exact")
    push.errorbar(TEMPERATURES, mean, 2 * error, fmt="o", ms=4, color=GREEN, label="measured, ± 2 s.e.")
    push.plot([WELL.crossover], [0], "o", ms=9, mfc="none", color=GOLD, label="T*")
    push.set(xlabel="temperature", ylabel="mean force", title="mean force at x = 0, between the wells")
    for axis in (share, push):
        axis.legend(fontsize=7.5, loc="upper left")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
