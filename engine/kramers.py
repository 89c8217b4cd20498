"""Kramers' equation of one coordinate and its momentum: exact relaxation of underdamped Langevin dynamics."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from .fokker_planck import FokkerPlanck, check_times
from .pytree import check_number

NEAREST = 12  # eigenvalues around zero, among which the slowest are found


class Kramers:
    """The exact density and relaxation rates of one underdamped coordinate.

        ∂f/∂t = -(p/m) ∂f/∂x + U' ∂f/∂p + γ ∂/∂p [p f + mT ∂f/∂p]

    f/√f_eq is expanded in Hermite functions of p/√(mT) and in the eigenfunctions φₖ of the overdamped generator, where
    bath and flow become sparse: -γn on the diagonal, and √(nT/m) ∂̂ between n - 1 and n, ∂̂ = ∂ + U'/2T. Errors fall
    exponentially with both sizes; low friction needs more of both: see `gap_error`.

    potential, temperature, low, high, nodes, periodic: as for `FokkerPlanck`. friction: γ > 0, a rate. mass: m > 0.
    functions, hermite: how many of each. `start` is a density of x as for `FokkerPlanck`; momenta start in equilibrium.
    Risken, "The Fokker-Planck Equation" (1989), section 10.3.
    """

    def __init__(
        self,
        potential: Callable,
        *,
        temperature: float,
        friction: float,
        mass: float = 1.0,
        low: float | None = None,
        high: float | None = None,
        nodes: int = 256,
        periodic: bool | None = None,
        functions: int = 64,
        hermite: int = 48,
    ) -> None:
        for name, value in (("friction", friction), ("mass", mass)):
            check_number(name, "positive", value)
        self.overdamped = FokkerPlanck(
            potential, temperature=temperature, low=low, high=high, nodes=nodes, periodic=periodic
        )
        if not (2 <= functions <= nodes // 2 and hermite >= 2):
            raise ValueError(
                f"functions must be from 2 to {nodes // 2}, half of the nodes, and hermite at least 2; "
                f"got {functions} and {hermite}"
            )
        self.friction, self.mass = float(friction), float(mass)
        self.functions, self.hermite = functions, hermite
        grid, phi = self.overdamped.grid, self.overdamped.functions[:, :functions]
        self._slope = phi.T @ (grid.first @ phi + self.overdamped.gradient[:, None] / (2 * temperature) * phi)
        self._slope[:, 0] = 0.0  # the equilibrium does not flow
        self.generator = self._generator(functions, hermite)

    def _generator(self, functions: int, hermite: int) -> Any:
        """The sparse matrix, without its first row and column: they are the equilibrium's, and zero."""
        from scipy import sparse

        up = sparse.diags(np.sqrt(np.arange(1.0, hermite)), -1)  # from n - 1 to n
        flow = sparse.kron(up, self._slope[:functions, :functions])
        bath = sparse.kron(sparse.diags(np.arange(0.0, hermite)), sparse.identity(functions))
        speed = np.sqrt(self.overdamped.temperature / self.mass)
        return (speed * (flow.T - flow) - self.friction * bath).tocsc()[1:, 1:]

    def rates(self, count: int) -> np.ndarray:
        """The `count` slowest relaxation rates, complex where they oscillate, by their real parts."""
        if not 1 <= count <= NEAREST:
            raise ValueError(f"count must be from 1 to {NEAREST}; got {count}")
        return _slowest(self.generator)[:count]

    @cached_property
    def gap(self) -> float:
        """The slowest relaxation rate: the real part of λ₁."""
        return float(self.rates(1)[0].real)

    @cached_property
    def gap_error(self) -> float:
        """How much the gap changes when both sizes are cut by a quarter: above its error."""
        smaller = self._generator(max(2, self.functions * 3 // 4), max(2, self.hermite * 3 // 4))
        return abs(float(_slowest(smaller)[0].real) - self.gap)

    def coefficients(self, start: Any, times: Any) -> np.ndarray:
        """Expansion (times, hermite, functions) of the density at times ≥ 0; the first is 1."""
        from scipy.sparse.linalg import expm_multiply

        times = check_times(times)
        state = np.zeros(self.functions * self.hermite)
        state[: self.functions] = self.overdamped.coefficients(start)[: self.functions]
        found, rest, now = np.empty((len(times), state.size)), state[1:], 0.0
        found[:, 0] = 1.0
        for i in np.argsort(times):
            if times[i] > now:
                rest, now = np.asarray(expm_multiply((times[i] - now) * self.generator, rest)), times[i]
            found[i, 1:] = rest
        return found.reshape(len(times), self.hermite, self.functions)

    def density(self, start: Any, times: Any) -> np.ndarray:
        """The density of x at the nodes, (times, nodes); structure finer than the `functions` resolve is lost."""
        return self._over_x(self.coefficients(start, times)[:, 0])

    def average(self, function: Callable, start: Any, times: Any) -> np.ndarray:
        """⟨f⟩ (times,) of a function of x, which takes and returns (nodes,)."""
        x, spacing = self.overdamped.grid.x, self.overdamped.grid.spacing
        return self.density(start, times) @ np.asarray(function(x), float) * spacing

    def momentum(self, start: Any, times: Any) -> np.ndarray:
        """⟨p⟩ and ⟨p²⟩ (2, times)."""
        whole = self.coefficients(start, times)[:, :3, 0]  # φ₀ = √p_eq integrates x out
        variance = self.mass * self.overdamped.temperature
        return np.stack([np.sqrt(variance) * whole[:, 1], variance * (1 + np.sqrt(2) * whole[:, 2])])

    def _over_x(self, coefficients: np.ndarray) -> np.ndarray:
        fp = self.overdamped
        return coefficients @ fp.functions[:, : self.functions].T * fp.root / np.sqrt(fp.grid.spacing)

    def __repr__(self) -> str:
        return (
            f"Kramers equation of {type(self.overdamped.potential).__name__}, T = {self.overdamped.temperature:g}, "
            f"friction {self.friction:g}, mass {self.mass:g}: gap {self.gap:.6g} ± {self.gap_error:.1g}"
        )


def _slowest(generator: Any) -> np.ndarray:
    """The relaxation rates nearest to zero, by their real parts."""
    from scipy.sparse.linalg import eigs

    first = np.ones(generator.shape[0])  # else ARPACK draws one, and the last digits change from call to call
    count = min(NEAREST + 2, len(first) - 2)
    found = -np.asarray(eigs(generator, count, sigma=0.0, v0=first, return_eigenvectors=False))
    return found[np.argsort(found.real)]
