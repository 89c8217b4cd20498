"""The same dynamics in other libraries, as their documentation writes it; `pip install -e ".[peers]"`.

Those of JAX have the population split over all devices of the process, as the plain scans have.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from contestants import GAMMA, TILT, H, T, a_key_each, energy, on_all_devices, start
from jax import lax


def blackjax(scheme: str, n: int, d: int, steps: int) -> Callable[[], Any]:
    """`sgld` and `sghmc` (one leap-frog step) under vmap, a key for each particle."""
    import blackjax

    gradient = lambda x, batch: -jax.grad(energy)(x) / T  # noqa: E731
    make = {
        "overdamped": lambda: blackjax.sgld(gradient),
        "BAOAB": lambda: blackjax.sghmc(gradient, num_integration_steps=1),
    }
    algorithm, h = make[scheme](), H[scheme]

    def one(x: Any, key: Any) -> Any:
        step = lambda x, key: (algorithm.step(key, x, 0.0, h), None)  # noqa: E731
        return lax.scan(step, algorithm.init(x), jax.random.split(key, steps))[0]

    return on_all_devices(a_key_each(one), start(n, d))


def jax_md(scheme: str, n: int, d: int, steps: int) -> Callable[[], Any]:
    """`brownian` and `nvt_langevin` on one array of n particles."""
    from jax_md import simulate, space

    shift = space.free()[1]
    make = {"overdamped": simulate.brownian, "BAOAB": simulate.nvt_langevin}[scheme]
    options = {} if scheme == "overdamped" else {"center_velocity": False}
    init, apply = make(energy, shift, dt=H[scheme], kT=T, gamma=GAMMA, **options)
    run = lambda state, key: lax.fori_loop(0, steps, lambda _, state: apply(state), state)  # noqa: E731
    return on_all_devices(run, start(n, d), lambda x, key: init(key, x))


def diffrax(scheme: str, n: int, d: int, steps: int) -> Callable[[], Any]:
    """Euler, or ShARK on the underdamped equation, with `UnsafeBrownianPath`, which makes no tree of intervals."""
    import diffrax
    import lineax

    h = H[scheme]

    def solve(x: Any, key: Any) -> Any:
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        if scheme == "overdamped":
            path = diffrax.UnsafeBrownianPath(like, key)
            drift = diffrax.ODETerm(lambda t, y, args: -jax.grad(energy)(y))
            noise = diffrax.ControlTerm(
                lambda t, y, args: lineax.DiagonalLinearOperator(jnp.full_like(y, (2 * T) ** 0.5)), path
            )
            terms, solver, y0 = diffrax.MultiTerm(drift, noise), diffrax.Euler(), x
        else:
            path = diffrax.UnsafeBrownianPath(like, key, levy_area=diffrax.SpaceTimeLevyArea)
            gamma, u = jnp.full(x.shape, GAMMA), jnp.full(x.shape, T)
            drift = diffrax.UnderdampedLangevinDriftTerm(gamma, u, lambda x, args: jax.grad(energy)(x) / T)
            terms = diffrax.MultiTerm(drift, diffrax.UnderdampedLangevinDiffusionTerm(gamma, u, path))
            solver, y0 = diffrax.ShARK(), (x, jnp.zeros_like(x))
        return diffrax.diffeqsolve(
            terms, solver, 0.0, h * steps, h, y0, saveat=diffrax.SaveAt(t1=True), max_steps=steps + 8,
            adjoint=diffrax.ForwardMode(), throw=False,
        ).ys  # fmt: skip

    return on_all_devices(solve, start(n, d))


def openmm(scheme: str, n: int, d: int, steps: int, platform: str) -> Callable[[], Any]:
    """`BrownianIntegrator` and `LangevinMiddleIntegrator`, n particles in three dimensions; mass 1, mobility 1/(mγ) = 1."""
    import openmm as mm
    from openmm import unit

    if d != 3:
        raise ValueError(f"OpenMM's particles have three coordinates; got {d}")
    system = mm.System()
    force = mm.CustomExternalForce(
        "+".join(f"((({a}*{a})-1)^2+{TILT}*{a})" for a in "xyz")
    )  # nm and kJ/mol; kT = 0.5 kJ/mol
    for i in range(n):
        system.addParticle(1.0)
        force.addParticle(i, [])
    system.addForce(force)
    kelvin = T / (unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin))
    make = {"overdamped": mm.BrownianIntegrator, "BAOAB": mm.LangevinMiddleIntegrator}[scheme]
    bath = make(kelvin, GAMMA, H[scheme])  # picoseconds
    context = mm.Context(system, bath, mm.Platform.getPlatformByName(platform))
    context.setPositions(np.asarray(start(n, d), float))

    def run() -> None:
        bath.step(steps)
        context.getState(getPositions=True)  # waits

    return run


BY_NAME: dict[str, Callable[..., Callable[[], Any]]] = {
    "BlackJAX": blackjax,
    "jax-md": jax_md,
    "diffrax": diffrax,
    "OpenMM Reference": functools.partial(openmm, platform="Reference"),
    "OpenMM CPU": functools.partial(openmm, platform="CPU"),
}
