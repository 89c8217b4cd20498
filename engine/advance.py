"""The inside of the loop as a pure function: for jit, vmap and derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .block import evolve_tile, quotient
from .checks import check_fit
from .configuration import STEP, configure
from .layout import Layout, arrange, block_length
from .noise import key_words, stream_keys
from .program import Carry, Program, Window
from .protocols import as_potential
from .pytree import size_of


def advance(potential: Callable, integrator: Any, state: Any, key: Any, start: Any, steps: Any) -> Any:
    """The state of a population after `steps` steps from step `start`: pure, good under jit, vmap and jvp.

    state: of the integrator, leading axes (n,), as `Run.state`; or `jax.vmap(integrator.init, ...)` of positions. The
    noise is that of `simulate` with the same key, so `advance(U, I, run.state, key, run.step, k)` is what
    `simulate(run, steps=k)` would do, before any change of integrator. start, steps: integers, also traced, with
    (start + steps) × normals a step below 2³¹. Numbers of the potential and integrator may be traced; schedules must be
    traceable functions of the step. Under jit pass numbers as arguments: closed over they are constants, which the
    compiler folds with other rounding. Nothing is observed, and a particle that is not finite is not reported.
    """
    potential = as_potential(potential)
    n = jax.tree.leaves(state)[0].shape[0]
    position = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), state.position)
    check_fit(integrator, potential, position)
    leaves, treedef = jax.tree.flatten(position)
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
    config = configure((potential, integrator, ()), position, n, dtype)
    if config.rungs is not None:
        raise ValueError("advance takes one population: use jax.vmap over the swept number instead of engine.sweep")
    found = arrange(position, n, heavy=config.is_heavy(position), ladder=False)
    length = block_length(found.padded * size_of(position) * max(1, integrator.noise.normals), few=found.few)
    layout = Layout(
        particles=n, rungs=1, ladder=False, shared_noise=False, groups=n, tile=found.padded, tiles=1, devices=1,
        steps=length, **found._asdict(),
    )  # fmt: skip
    program = Program(
        recipe=config.recipe, layout=layout, position=(treedef, tuple(leaves)), noise=integrator.noise,
        chance=potential.chance, driven=STEP in config.recipe.kinds[: len(jax.tree.leaves(potential))], batches=(),
    )  # fmt: skip
    start, steps = jnp.asarray(start, jnp.int32), jnp.asarray(steps, jnp.int32)
    base = start // length * length
    words = lambda value: (jnp.asarray(value, jnp.uint32), np.uint32(0))  # noqa: E731
    at = Window(
        low=start - base,
        high=start - base + steps,
        draws=quotient(start - base + steps + length - 1, length),
        pairs=words(base // 2 * integrator.noise.normals),
        scalars=words(base // 2 * integrator.noise.scalars),
        step=words(base),
        periods=tuple((words(base // c.period), base % c.period) for c in potential.chance),
        watches=(),
    )
    scheduled = lambda i: [jnp.asarray(f(base + i), dtype) for _, _, f in config.schedules]  # noqa: E731
    keys = stream_keys(key_words(key))
    particle, inner = (
        jax.tree.map(lambda a: a[0], layout.pack(tree, traced=True)) for tree in (config.particle, state)
    )
    carry = Carry(inner, ())
    carry, _ = evolve_tile(program, config.shared, particle, scheduled, carry, (), keys, at, jnp.int32(0))
    return layout.unpack(jax.tree.map(lambda a: a[None], carry.state), traced=True)
