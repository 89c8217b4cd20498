"""The loop: a host loop over compiled blocks of steps. Start reading here.

A *potential* is an energy, an *integrator* a pure map from one particle's state to the next, an *observable* a sum over
particles and time. `prepare` checks them and lays the population out; `run_block` (block.py) takes every particle through
some steps in one compiled call; between two calls the host looks whether all particles are finite, draws the progress bar,
and evaluates schedules; while a call runs, the host adds up what the one before has observed. How many steps a
call takes is chosen by the clock and changes no bit of any result.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .block import compile_block, run_block
from .checks import Interrupted, check_steps
from .diagnosis import diagnose
from .hardware import is_large, mapped_arrays
from .plan import Plan
from .preparation import prepare, resume
from .progress import Progress
from .run import Run

SECONDS_A_BLOCK = 0.5
MANY_STEPS = 1000  # beside which arrays with pages of their own cost at most 2 %


def simulate(
    potential: Callable | Run,
    integrator: Any = None,
    positions: Any = None,
    *,
    steps: int,
    key: Any = None,
    observables: Any = None,
    progress: bool = True,
) -> Run:
    """Evolve a population of particles; or go on with a run.

    simulate(potential, integrator, positions, steps=...) starts; simulate(run, steps=...) goes on, bit for bit as if it
    had not stopped, or with another `integrator` or with new `observables` from here on.

    potential: an energy U(position) -> scalar for one particle: any callable, or one of `heatbath.potentials`.
    integrator: one of `heatbath.integrators`, or yours. positions: a pytree of arrays (n, ...), one row a particle.
    steps: how many. key: an integer in [0, 2³²) or a typed threefry key; 0 if not given.
    observables: a pytree of observables, whose results come back in that pytree; by default the energy, the
    thermometers and the position, as far as they are cheap. progress: show a bar for long runs.

    Raises TypeError or ValueError for bad input before anything compiles, `NonFiniteError` when a particle leaves the
    finite numbers, and `Interrupted`, a KeyboardInterrupt that carries the run so far, on Ctrl-C.
    """
    steps = check_steps(steps)
    if isinstance(potential, Run):
        run = resume(potential, integrator=integrator, positions=positions, key=key, observables=observables)
    else:
        run = prepare(potential, integrator, positions, key=0 if key is None else key, observables=observables)
    del positions  # a million particles need no second copy
    plan, step, records = Plan.of(run), run.step, run.records
    first, end, pace, large = step, step + steps, 16, is_large((run.state, run.memories))
    seen: tuple | None = None  # the rows of the last block, not yet in the records
    settled = lambda: plan.collect(run, records, *seen) if seen else records  # noqa: E731
    finished = lambda: dataclasses.replace(run, **plan.unpack(carry), step=step, records=settled())  # noqa: E731
    with Progress(total=steps, label=plan.label, enabled=progress) as bar, mapped_arrays(large and steps >= MANY_STEPS):
        carry = plan.pack(run)
        run = dataclasses.replace(run, state=None, memories=())
        try:
            while step < end:
                count = min(pace, plan.room(step), end - step)
                began = time.monotonic()
                scheduled = plan.scheduled(step, count)
                at = plan.window(step, count)
                block = plan.program, plan.shared, plan.particle, scheduled, carry, plan.keys, at
                if step == first and large:
                    compile_block(*block)
                new, rows, broken = run_block(*block)
                del block  # or it would keep the carry of before
                records, seen = settled(), None  # while the devices work
                if any(np.asarray(part).any() for part in broken):  # waits for the block
                    raise diagnose(plan, run, carry, step, count)
                taken = time.monotonic() - began
                carry, step, seen = new, step + count, (step, count, rows)  # together: nothing is left half done
                bar.advance(count)
                pace = int(np.clip(count * SECONDS_A_BLOCK / max(taken, 1e-6), max(1, pace // 2), pace * 8))
            return finished()
        except KeyboardInterrupt:
            raise Interrupted(finished(), end) from None
