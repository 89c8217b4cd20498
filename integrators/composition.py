"""What can be said of a composition before any step is taken: its order, and the symmetry of its cycle."""

import functools
import itertools
import math

Word = tuple[tuple[str, float], ...]  # letters and the fraction of the step that each acts for


@functools.lru_cache
def order(word: Word) -> int:
    """The order of exp(f₁L₁) exp(f₂L₂) … as an approximation of exp(ΣL), by comparing the series term by term.

    A product of n letters has the coefficient 1/n! in the exponential of the sum; in the composition it is what all ways
    give to take the letters from the word in this order. For generators of a stochastic scheme it is the weak order.
    """
    letters = sorted({letter for letter, _ in word})
    for length in itertools.count(1):
        for product in itertools.product(letters, repeat=length):
            found = [1.0] + [0.0] * length  # of the first 0, 1, … letters of the product
            for letter, fraction in word:
                for end in range(length, 0, -1):
                    share = 1.0
                    for begin in range(end - 1, -1, -1):
                        if product[begin] != letter:
                            break
                        share *= fraction / (end - begin)
                        found[end] += share * found[begin]
            if abs(found[length] - 1 / math.factorial(length)) > 1e-9 or length == 9:
                return length - 1
    raise AssertionError  # the count has no end


def cycle(word: Word) -> Word:
    """The word as what repeats, equal neighbours in one, also across the end: a shift of a scheme has the same cycle."""
    merged: list[tuple[str, float]] = []
    for letter, fraction in word:
        before = merged.pop()[1] if merged and merged[-1][0] == letter else 0.0
        merged.append((letter, before + fraction))
    if len(merged) > 1 and merged[0][0] == merged[-1][0]:
        merged[0] = (merged[0][0], merged[0][1] + merged.pop()[1])
    return tuple((letter, round(fraction, 12)) for letter, fraction in merged)


def is_symmetric(cycle: Word) -> bool:
    """Whether a cycle read backwards is the same cycle: a word that is a palindrome, or a shift of one."""
    shifts = [cycle[i:] + cycle[:i] for i in range(len(cycle))]
    return any(word in (word[::-1], word[:1] + word[:0:-1]) for word in shifts)
