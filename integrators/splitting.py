"""Underdamped Langevin dynamics by splitting: a scheme is a word."""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential, Sum
from ..engine.pytree import dot, pytree, root_times, static
from .composition import Word, cycle, is_symmetric, order
from .underdamped import Phase, Underdamped


@pytree
class Splitting(Underdamped):
    """Any word of drifts A, kicks B and Ornstein-Uhlenbeck parts O, or free motions U, read from left to right.

        dx = p/m dt,    dp = -∇U dt - γp dt + √(2γmT) dW

        A: x ← x + (h/nA) p/m      B: p ← p - (h/nB) ∇U(x)      O: p ← cp + √(mT(1 - c²)) ξ,  c = exp(-γh/nO)
        U: A and O together, exactly, for h/nU            S: as B, by the slow terms of a sum; B then has the others

    scheme: the word; a letter that occurs n times acts for h/n. fractions: of the step, one for each letter, where they
    are not equal; those of one letter sum to 1. slow: which terms of a sum S stands for, the last if not given; an energy
    of one term is slow. step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a
    diagonal shaped like the position, or a matrix over its coordinates.
    Cost: one gradient for each distinct position at which B (with S: S) acts; a gradient at the end of a word that the next
    word begins with is kept. Two normals a U, one an O. Stationary order 2 for palindromes and their cyclic shifts (BAOA),
    else 1, or that of the rest where all O's stand together; on U = kx²/2 palindromes with one O or with O outside (and
    BAOA) are stable for hω < 2, ω² = k/m.
    Raises ValueError for other letters, a word without A (or U) and B, U beside A or O, or fractions that do not fit.
    Leimkuhler and Matthews, "Molecular Dynamics" (Springer 2015), ch. 7; U: Skeel and Izaguirre, Mol. Phys. 100 (2002);
    S: Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992).
    """

    scheme: str = static(default="BAOAB")
    fractions: tuple[float, ...] | None = static(default=None)
    slow: tuple[int, ...] = static(default=(-1,))

    def __post_init__(self) -> None:
        word, fractions = self.scheme, self.fractions
        if (
            not isinstance(word, str)
            or not re.fullmatch("[ABOS]+|[BUS]+", word)
            or not re.search("A.*B|B.*[AU]|U.*B", word)
        ):
            raise ValueError(
                "scheme must be a word in the letters A (drift), B (kick), O (Ornstein-Uhlenbeck), S (kick by slow terms) "
                f"with at least one A and one B, such as 'BAOAB', or with U for A and O, such as 'UBU'; got {word!r}"
            )
        object.__setattr__(self, "slow", tuple(map(int, np.ravel(self.slow))))
        if fractions is None:
            return
        object.__setattr__(self, "fractions", fractions := tuple(map(float, np.ravel(fractions))))
        if len(fractions) != len(word):
            raise ValueError(
                f"fractions must be one for each of the {len(word)} letters of {word}; got {len(fractions)}"
            )
        for letter in word:
            own = [fraction for mine, fraction in zip(word, fractions, strict=True) if mine == letter]
            if not math.isclose(sum(own), 1, abs_tol=1e-9):
                raise ValueError(
                    f"fractions of a letter must sum to 1; those of {letter} are {own}, sum {sum(own):.12g}"
                )
            if letter in "OU" and min(own) < 0:
                raise ValueError(
                    f"a bath does not run backwards: fractions of {letter} must not be negative; got {own}"
                )

    @property
    def word(self) -> Word:
        """The letters, each with the fraction of the step that it acts for."""
        fractions = self.fractions or [1 / self.scheme.count(letter) for letter in self.scheme]
        return tuple(zip(self.scheme, fractions, strict=True))

    @property
    def is_reversible(self) -> bool:
        """Whether the word is a palindrome, fractions and all."""
        return self.word == self.word[::-1]

    @property
    def _kept(self) -> tuple[str, ...]:
        """The kicks with a gradient that the next step begins with (O does not move the position)."""
        first, *_, last = re.split("[AU]", self.scheme)
        return tuple(kick for kick in "BS" if kick in first and kick in last)

    def _positions(self, kick: str) -> int:
        """Distinct positions a step at which a kick acts; a run that goes on into the next word counts once."""
        return sum(kick in run for run in re.split("[AU]", self.scheme)) - (kick in self._kept)

    @property
    def gradients(self) -> int:
        return self._positions("S" if "S" in self.scheme else "B")

    @property
    def fast_gradients(self) -> int:
        """Gradients a step of the terms that are not slow; `gradients` are then those of the slow ones."""
        return self._positions("B") if "S" in self.scheme else 0

    @property
    def weak_order(self) -> int:
        return order(self.word)

    @property
    def stationary_order(self) -> int | None:
        if not {*"OU"} & {*self.scheme}:
            return None
        turned = cycle(self.word)
        if [letter for letter, _ in turned].count("O") == 1:
            return order(self._rest)  # between the baths, which keep the Gibbs state, only the rest has an error
        # a cyclic shift of a palindrome is the same dynamics seen at another moment; both marginals stay second order
        return 2 if is_symmetric(turned) else 1

    @property
    def _rest(self) -> Word:
        """What happens between one bath and the next, where all O's stand together."""
        turned = cycle(self.word)
        bath = [letter for letter, _ in turned].index("O")
        return turned[bath + 1 :] + turned[:bath]

    @property
    def exact(self) -> frozenset[str]:
        """On U = kx²/2 at every stable step, at the end of the word."""
        found = set()
        if self.fractions is None and self.scheme in ("BAOAB", "BAOA", "AOAB", "ABOBA"):
            found |= {"positions"}
        seen = self.scheme.rstrip("A").endswith("O") or self.scheme.lstrip("A").startswith("O")
        if seen and [letter for letter, _ in cycle(self.word)].count("O") == 1 and self._rest == self._rest[::-1]:
            found |= {"momenta"}  # a palindrome keeps an energy without xp, so the bath's momenta stay as they are
        return frozenset(found)

    @property
    def noise(self) -> NoiseSpec:
        return NoiseSpec(normals=self.scheme.count("O") + 2 * self.scheme.count("U"))

    def init(self, potential: Potential, position: Any, noise: Noise) -> Phase:
        return self.refresh(potential, Phase(position, self.thermal(noise), None))

    def refresh(self, potential: Potential, state: Phase) -> Phase:
        return state._replace(
            gradient=self._keep({k: self._gradient(potential, k, state.position) for k in self._kept})
        )

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, kept = state
        g = kept if "S" in self.scheme else {"B": kept} if self._kept else {}
        xi = iter(noise.normals)
        for letter, fraction in self.word:
            h = self.step_size * fraction if self.fractions else self.step_size / self.scheme.count(letter)
            match letter:
                case "A":
                    x, g = optax.tree.add_scale(x, h, self.velocity(p)), {}  # gradients are stale from here on
                case "U":
                    (x, p), g = self.glide((x, p), None, h, (next(xi), next(xi))), {}
                case "O":
                    p = self.thermalise(p, h, next(xi))
                case kick:
                    g = g if kick in g else g | {kick: self._gradient(potential, kick, x)}
                    p = optax.tree.add_scale(p, -h, g[kick])
        return Phase(x, p, self._keep(g))

    def thermalise(self, momentum: Any, time: Any, normal: Any) -> Any:
        """The O part for a time."""
        # as increments: in c p + s ξ either product may be contracted into the sum, here only one way is left, and loops of
        # different length round alike
        loss = jnp.expm1(-self.friction * time)
        spread = jnp.sqrt(self.temperature * -jnp.expm1(-2 * self.friction * time))  # 1 - c² without cancellation
        momentum = optax.tree.add_scale(momentum, loss, momentum)
        return optax.tree.add_scale(momentum, spread, root_times(self.mass, normal))

    def energy_error(self, potential: Potential, state: Phase) -> jax.Array:
        silent = jax.tree.map(jnp.zeros_like, state.position)
        bare = dataclasses.replace(self, friction=0.0)
        new = bare.step(potential, state, Noise((silent,) * self.noise.normals))
        return potential(new.position) - potential(state.position) + self.kinetic_change(state.momentum, new.momentum)

    def kinetic_change(self, old: Any, new: Any) -> jax.Array:
        """The change of kinetic energy from one momentum to another, (p' + p)·M⁻¹(p' - p)/2.

        Summed over differences: the rounding of a difference of sums would grow with the number of coordinates.
        """
        return dot(optax.tree.add(new, old), self.velocity(optax.tree.sub(new, old))) / 2

    def _keep(self, gradients: dict[str, Any]) -> Any:
        """What the state keeps of the gradients: that of B, or of B and S by their letters."""
        kept = {kick: gradients[kick] for kick in self._kept}
        return kept if "S" in self.scheme else kept.get("B")

    def _gradient(self, potential: Potential, kick: str, x: Any) -> Any:
        """The gradient of the terms that a kick stands for."""
        if "S" not in self.scheme:
            return potential.gradient(x)
        parts = potential.parts()
        if len(parts) > 1 and not all(-len(parts) <= i < len(parts) for i in self.slow):
            raise ValueError(f"slow must number terms of the potential, which has {len(parts)}; got {self.slow}")
        slow = {i % len(parts) for i in self.slow}
        mine = tuple(part for i, part in enumerate(parts) if (i in slow) == (kick == "S"))
        return Sum(terms=mine).gradient(x) if mine else optax.tree.zeros_like(x)
