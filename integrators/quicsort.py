"""A stochastic Runge-Kutta method of third strong order."""

import math
from typing import Any

import jax
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import pytree
from .free_motion import FreeMotion, free_motion
from .underdamped import Phase, Underdamped

LEFT, RIGHT = 0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6  # Gauss's two nodes


@pytree
class QUICSORT(Underdamped):
    """Third strong order from two gradients: for paths, where others are for averages.

    The noise of a step is that of its Brownian path: the increment W, and the coefficients H and K of its space-time and
    space-time-time areas, independent with variances h, h/12 and h/720. With R = √(2γmT), q = p + R(H + 6K) follows
    dx = q/m dt, dq = -∇U dt - γq dt + R(W - 12K)/h dt, solved by exponentials in the linear part and Gauss's two nodes in
    the force; p' = q' - R(H - 6K).

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal or a matrix.
    Cost: 2 gradients, 3 normals. Weak and strong order 3, and stationary order 3. Steps share a path by `coarsen`.
    Foster, Lyons and Oberhauser, arXiv 2101.03446, def. 1.2, in the variant of Foster and O'Kane, as in diffrax.
    """

    weak_order = 3
    strong_order = 3
    stationary_order = 3
    gradients = 2
    noise = NoiseSpec(normals=3)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        w, a, b = noise.normals
        left, right, whole, third = (free_motion(self.friction, h * part) for part in (LEFT, RIGHT, 1.0, 1 / 3))
        bath = 2 * self.friction * h
        # W = √h ξ, H = √(h/12) η, K = √(h/720) ζ
        area = lambda sign: self.agitation(bath / 12, optax.tree.add_scale(a, sign * math.sqrt(0.6), b))  # noqa: E731
        push = self.agitation(bath / h**2, optax.tree.add_scale(w, -math.sqrt(0.2), b))
        q = optax.tree.add(p, area(1))

        def along(free: FreeMotion) -> Any:
            """The position without the potential's force."""
            y = optax.tree.add_scale(x, free.reach, self.velocity(q))
            return optax.tree.add_scale(y, free.pull, self.velocity(push))

        g1 = potential.gradient(along(left))
        g2 = potential.gradient(optax.tree.add_scale(along(right), -h * third.reach, self.velocity(g1)))
        x = optax.tree.add_scale(along(whole), -h / 2 * right.reach, self.velocity(g1))
        x = optax.tree.add_scale(x, -h / 2 * left.reach, self.velocity(g2))
        q = optax.tree.add_scale(optax.tree.add_scale(q, whole.loss, q), whole.reach, push)
        q = optax.tree.add_scale(optax.tree.add_scale(q, -h / 2 * (1 + right.loss), g1), -h / 2 * (1 + left.loss), g2)
        return Phase(x, optax.tree.sub(q, area(-1)), None)

    def coarsen(self, first: Noise, second: Noise) -> Noise:
        """The noise of one step along the path of two half steps."""
        (w1, a1, b1), (w2, a2, b2) = first.normals, second.normals
        even = lambda a, b: jax.tree.map(lambda a, b: (a + b) * math.sqrt(0.5), a, b)  # noqa: E731
        odd = lambda a, b: jax.tree.map(lambda a, b: (a - b) * math.sqrt(0.5), a, b)  # noqa: E731
        lean = lambda c, a, b: jax.tree.map(lambda a, b: c * a + math.sqrt(1 - c * c) * b, a, b)  # noqa: E731
        # Legendre's polynomials over the whole step, by those over its halves
        return Noise((even(w1, w2), lean(1 / 2, even(a1, a2), odd(w1, w2)), lean(1 / 4, even(b1, b2), odd(a1, a2))))
