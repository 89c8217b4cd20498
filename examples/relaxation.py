"""A population forgets where it was released: its divergence from equilibrium falls, at twice the slowest rate it excites.

    T × KL(t) = F(t) - F_eq,    -d KL/dt = entropy produced a time,    KL → A exp(-2λt)

λ is the gap λ₁ for a start off centre. A symmetric start in a symmetric double well never excites that mode, and relaxes
at λ₂. With momenta the law is that of positions and momenta together; its divergence rests where momenta are at rest.
Against closed forms in a harmonic well and against the Fokker-Planck and Kramers equations in a double well.
Run by `make examples`; the picture goes to out/relaxation_rates.png.
"""

import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from judging import OUT, judge, report, run
from scipy.interpolate import PchipInterpolator
from scipy.special import factorial

from heatbath import engine, integrators, potentials
from heatbath.engine import ornstein_uhlenbeck as ou
from heatbath.engine.divergence import entropy_nearest

STIFFNESS, TEMPERATURE = 1.5, 0.8
WELL = potentials.DoubleWell(barrier=2.0)
MILD, STRONG = 1.0, 4.0  # friction: oscillations, and none


class Case(NamedTuple):
    """A release: what is simulated, what is exact, and twice the slowest rate excited."""

    potential: Any
    integrator: Any
    center: float
    scale: float
    steps: int
    every: int
    exact: Any  # KL at times (m,)
    rate: float | None


def normal(case: Any) -> Any:
    """The density of a release."""
    return lambda x: np.exp(-((x - case[0]) ** 2) / (2 * case[1] ** 2))


def joint(kramers: engine.Kramers, start: Any, times: Any) -> np.ndarray:
    """KL (times,) of positions and momenta together, by Gauss and Hermite over the momenta."""
    fp, n = kramers.overdamped, kramers.hermite
    over_x = kramers.coefficients(start, times) @ fp.functions[:, : kramers.functions].T * fp.root
    q, weights = np.polynomial.hermite_e.hermegauss(n)
    hermite = np.polynomial.hermite_e.hermevander(q, n - 1) / np.sqrt(factorial(np.arange(n)))  # orthonormal
    ratio = np.einsum("tnx,qn->txq", over_x, hermite) / np.sqrt(fp.grid.spacing) / fp.equilibrium[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(ratio > 0, ratio * np.log(ratio), 0.0)
    return np.einsum("txq,x,q->t", terms, fp.equilibrium, weights / weights.sum()) * fp.grid.spacing


def cases() -> dict[str, Case]:
    """Harmonic, overdamped and underdamped; double well, off centre and from the top."""
    ball = potentials.Harmonic(stiffness=STIFFNESS)
    fp = engine.FokkerPlanck(WELL, temperature=1.0)
    over = ou.overdamped(STIFFNESS, temperature=TEMPERATURE)
    first = ou.Gaussian(np.array([2.0]), np.array([[0.25]]))
    found = {
        "harmonic, overdamped": Case(
            ball, integrators.EulerMaruyama(step_size=1e-3, temperature=TEMPERATURE), 2.0, 0.5, 2_400, 80,
            lambda t: over.divergence(t, first), 2 * STIFFNESS,
        )
    }  # fmt: skip
    both = ou.Gaussian(np.array([2.0, 0.0]), np.diag([0.25, TEMPERATURE]))
    for friction in (MILD, STRONG):
        under = ou.underdamped(STIFFNESS, temperature=TEMPERATURE, friction=friction)
        slowest = float(np.linalg.eigvals(under.drift).real.min())
        bath = integrators.BAOAB(step_size=0.02, friction=friction, temperature=TEMPERATURE)
        found[f"harmonic, γ = {friction:g}"] = Case(
            ball, bath, 2.0, 0.5, 450, 15, lambda t, law=under: law.divergence(t, both),
            2 * slowest if friction == STRONG else None,
        )  # fmt: skip
    for name, start, steps, every, rate in (
        ("double well, off centre", (-0.9, 0.2), 12_000, 400, fp.gap),
        ("double well, from the top", (0.0, 0.3), 1_000, 25, fp.rates(2)[1]),
    ):
        scheme = integrators.EulerMaruyama(step_size=5e-4, temperature=1.0)
        found[name] = Case(
            WELL, scheme, *start, steps, every, lambda t, s=start: fp.divergence(normal(s), t), 2 * float(rate)
        )
    kramers = engine.Kramers(WELL, temperature=1.0, friction=2.0, functions=40, hermite=32)
    off, coarse = (-0.9, 0.2), np.linspace(0, 12, 16)  # the density is costly, the logarithm of its divergence smooth
    curve = PchipInterpolator(coarse, np.log(joint(kramers, normal(off), coarse)))
    found["double well, γ = 2"] = Case(
        WELL, integrators.BAOAB(step_size=0.02, friction=2.0), *off, 600, 20,
        lambda t: np.exp(curve(t)), 2 * kramers.gap,
    )  # fmt: skip
    return found


def entropy(case: Case, particles: int) -> dict[str, engine.Line]:
    """Heat given to the bath and entropy gained by the population: together, the divergence lost."""
    start = engine.scatter(jnp.full(1, case.center), particles, scale=case.scale, key=1)
    run = engine.simulate(case.potential, case.integrator, start, steps=case.steps, key=2, observables=())
    t = float(run.time)
    ends = [np.asarray(a, float)[:, 0] for a in (start, run.positions)]
    before, after = (np.asarray(case.potential.one(x)) for x in ends)
    s0, s1 = (entropy_nearest(x) for x in ends)
    heat, heat_error = np.mean(before - after), np.std(before - after) / np.sqrt(particles)
    gained, gained_error = s1.value - s0.value, np.hypot(s0.error, s1.error)

    fp = engine.FokkerPlanck(case.potential, temperature=1.0)
    p = fp.density(normal((case.center, case.scale)), [0.0, t])
    with np.errstate(divide="ignore", invalid="ignore"):
        s = -np.nansum(np.where(p > 0, p * np.log(p), 0.0), axis=1) * fp.grid.spacing
    u = p @ fp.energy(fp.x) * fp.grid.spacing
    nodes, weights = np.polynomial.legendre.leggauss(80)
    times = t * ((1 + nodes) / 2) ** 2  # crowded at the beginning, where most is produced
    rates = fp.entropy_production(normal((case.center, case.scale)), times)
    produced = weights @ (rates * t * (1 + nodes) / 2)
    return {
        "heat given to the bath/T": judge(heat, u[0] - u[1], heat_error),
        "entropy gained": judge(gained, s[1] - s[0], gained_error),
        "their sum": judge(heat + gained, produced, np.hypot(heat_error, gained_error), note="exact: ∫ production dt"),
    }


def main(particles: int = 20_000, names: tuple[str, ...] = (), out: pathlib.Path | None = OUT) -> bool:
    """Whether every divergence, rate and entropy is what it must be.

    names: of the cases to run, all if empty. out: where the picture goes, if anywhere.
    """
    found, lines = {}, {}
    todo = {name: case for name, case in cases().items() if not names or name in names}
    for name, case in todo.items():
        start = engine.scatter(jnp.full(1, case.center), particles, scale=case.scale, key=1)
        found[name] = run = engine.relaxation(
            case.potential, case.integrator, start, steps=case.steps, every=case.every, key=2
        )
        exact = case.exact(run.times[1:])
        for i in np.linspace(4, len(run.times) - 1, 5).astype(int)[:4]:
            lines[f"{name}: KL({run.times[i]:.3g})"] = judge(run.kl[i], exact[i - 1], run.error[i])
        if case.rate is not None:
            lines[f"{name}: rate of decay"] = judge(
                run.rate, case.rate, run.rate_error, note="exact: twice the mode's rate"
            )
    if (off := todo.get("double well, off centre")) is not None:
        lines |= {f"off centre: {name}": line for name, line in entropy(off, particles).items()}
    passed = report(f"relaxation of {particles:,} particles", lines)
    if out is not None:
        draw(out / "relaxation_rates.png", todo, found)
    return passed


def draw(path: pathlib.Path, todo: dict[str, Case], found: dict[str, engine.Relaxation]) -> None:
    """Divergences over time with the exact curves, and the mode that the start excites."""
    from pictures import BLUE, GOLD, GREEN, INK, RED, plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    panels = (
        ("harmonic well", [name for name in todo if name.startswith("harmonic")]),
        ("double well, released in one well", ["double well, off centre", "double well, γ = 2"]),
        ("double well, released from the top", ["double well, from the top"]),
    )
    colors = dict(zip(todo, (BLUE, GREEN, GOLD, BLUE, RED, GREEN), strict=True))
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            run, case = found[name], todo[name]
            seen = run.kl > 3 * run.floor
            label = (
                name.split(", ")[1].replace("off centre", "overdamped") if len(names) > 1 else "measured"
            ) + ", ± 2 s.e."
            axis.errorbar(run.times[seen], run.kl[seen], 2 * run.error[seen], fmt="o", ms=3, lw=0.9, color=colors[name],
                          label=label, zorder=3)  # fmt: skip
            t = np.linspace(run.times[1] / 4, run.times[-1], 60)
            exact = case.exact(t)
            axis.plot(t, exact, color=INK, lw=1.1, label="exact" if name == names[-1] else None)
            if name.startswith("double"):
                late = t > t[-1] * 0.1
                shown = {"color": colors[name], "lw": 1.2, "ls": "--"}
                anchor = np.log(exact[len(t) * 3 // 4]) + case.rate * t[len(t) * 3 // 4]
                axis.plot(t[late], 1.6 * np.exp(anchor - case.rate * t[late]), **shown,
                          label=f"2λ = {case.rate:.3g}")  # fmt: skip
        axis.axhline(found[names[0]].floor, color=INK, lw=0.8, ls=":", label="noise of an equilibrium")
        axis.set(yscale="log", xlabel="time", ylabel="KL to equilibrium", title=title)
        axis.set_ylim(bottom=found[names[0]].floor / (30 if len(names) == 2 else 3))
        axis.legend(fontsize=7.5, ncols=2 if len(names) == 2 else 1)
    gap = todo["double well, off centre"].rate
    axes[2].text(
        0.04, 0.24, f"the gap would give only 2λ₁ = {gap:.3g}", transform=axes[2].transAxes, fontsize=7.5, color=INK
    )
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
