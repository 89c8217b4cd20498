"""Momenta drawn anew."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .configuration import configure, evaluate_first
from .noise import Stream, key_words
from .preparation import initialise
from .run import Run


def redraw_momenta(run: Run, *, key: Any) -> Run:
    """The run with all momenta drawn anew from the bath's temperature; nothing else of it changes.

    Momenta are those of the Maxwell-Boltzmann law p ~ N(0, TM) at the temperature and mass of the run's next step; a normal
    that the state keeps for the next step is drawn with them, as it is at the start of a run. They
    depend on the key and the particle's number alone: the same key gives the same momenta. Observables go on, and the
    noise of further steps is what it would have been. Raises ValueError where the dynamics has no momenta.
    """
    if not run.integrator.has_momentum or "momentum" not in run.state._fields:
        raise ValueError(f"{type(run.integrator).__name__} has no momenta to redraw")
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(run.position))
    config = configure((run.potential, run.integrator), run.position, run.particles, dtype, run.rungs)
    scheduled = evaluate_first(config.schedules, run.step, run.position, dtype)
    words = key_words(key)
    fresh = initialise(config, run.positions, run.particles, words, scheduled, run.ladder, stream=Stream.MOMENTA)
    drawn = {name: getattr(fresh, name) for name in ("momentum", "normal") if name in fresh._fields}
    return dataclasses.replace(run, state=run.state._replace(**drawn))
