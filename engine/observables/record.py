"""Sums kept in blocks of time: constant memory, whatever the length of the run, and the same bits however it was cut.

Every observation is a row of sums over groups of particles. Rows are merged in pairs aligned to their number in the run,
in float64: the result after N rows does not depend on how they arrived. There are 64 to 128 blocks once a run is long, so
that the device may add up to 64 observations before they arrive: in parts, as it comes, whole numbers, whose sums are exact
in any order; in their own order others, for which a row that is not complete is kept as the device left it.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

MOST = 128  # blocks; then pairs are merged
MOST_MERGED = 6  # levels that are merged before they arrive: 64 observations


def level_of(number: int) -> int:
    """The level at which the observation of this number may arrive: that of the blocks, up to `MOST_MERGED`."""
    return min(MOST_MERGED, max(0, (2 * number // MOST).bit_length() - 1)) if number > 0 else 0


def cut(tree: Any, start: int | None, stop: int | None, stride: int = 1) -> Any:
    """Rows of every leaf."""
    return jax.tree.map(lambda leaf: leaf[start:stop:stride], tree)


def join(first: Any, second: Any) -> Any:
    """Rows of two trees, one after the other; None is empty."""
    return second if first is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def length(tree: Any) -> int:
    """Number of rows; None has none."""
    return 0 if tree is None else len(jax.tree.leaves(tree)[0])


def widen(tree: Any) -> Any:
    """Rows from a device in the types of the host: float64 and int64."""
    return jax.tree.map(lambda a: np.asarray(a, np.int64 if np.asarray(a).dtype.kind in "iu" else np.float64), tree)


def fold(merge: Callable, tree: Any) -> Any:
    """All rows merged into one, pairwise."""
    while (n := length(tree)) > 1:
        paired = pairs(merge, cut(tree, 0, n - n % 2))
        tree = join(paired, cut(tree, n - 1, n)) if n % 2 else paired
    return jax.tree.map(lambda leaf: leaf[0], tree)


def climb(start: int, stop: int, most: int, take: Callable, pair: Callable) -> Iterator[tuple[int, Any]]:
    """The rows start … stop - 1 merged as a record of level `most` would merge them: (level, rows) that it takes in order.

    take(level, begin, end): the rows begin … end - 1 of 2^level rows each. pair(level, begin, end): makes such rows from
    those of the level below.
    """
    level, begin, end, tail = 0, start, stop, []
    while level < most and end - begin > 1:
        if begin % 2:
            yield level, take(level, begin, begin + 1)
        if end % 2:
            tail.append((level, take(level, end - 1, end)))
        level, begin, end = level + 1, -(-begin // 2), end // 2
        pair(level, begin, end)
    if end > begin:
        yield level, take(level, begin, end)
    yield from reversed(tail)


def pairs(merge: Callable, rows: Any) -> Any:
    """Rows merged in pairs; their number is even."""
    return merge(cut(rows, 0, None, 2), cut(rows, 1, None, 2))


class Record:
    """Rows of sums from step `first` on, every `every` steps; `merge` adds them, `keep` keeps every row apart."""

    def __init__(self, *, first: int, every: int, merge: Callable, keep: bool = False) -> None:
        self.first, self.every, self.merge, self.keep = first, every, merge, keep
        self.level, self.rows = 0, 0  # a block is 2^level rows
        self._parts: tuple = ()  # the blocks as they came: joined at every arrival, a long series would be copied each time
        self._full = 0  # how many blocks these are
        self.pending: list[Any] = [None]  # for each level up to `level`, the row that waits for its pair
        self.tail, self.tail_rows = (
            None,
            0,
        )  # the newest rows, as far as they do not complete a group that arrives as one
        self.open: list | None = (
            None  # the leaves of the tail as it is on the device, (tiles, ...); None if not continued
        )

    @property
    def blocks(self) -> Any:
        """The full blocks, oldest first; None if there is none."""
        if len(self._parts) > 1:
            self._parts = (jax.tree.map(lambda *a: np.concatenate(a), *self._parts),)
        return self._parts[0] if self._parts else None

    @blocks.setter
    def blocks(self, tree: Any) -> None:
        self._parts, self._full = (() if tree is None else (tree,)), length(tree)

    def copy(self) -> "Record":
        """An independent copy; arrays are shared, since they are replaced and never changed."""
        twin = object.__new__(Record)
        twin.__dict__ = {**self.__dict__, "pending": list(self.pending)}
        return twin

    def push(
        self, rows: Any, level: int = 0, begun: int = 0, *, whole: bool = False, opened: list | None = None
    ) -> None:
        """Append rows of sums, oldest first, each of the 2^level observations of a group; groups follow one another.

        begun: observations in the last row, if it is not complete. The first row is the rest of the group that was begun
        before, or the whole of it. opened: of the last row if it is not complete, for `open`.
        """
        if self.tail is not None and not whole:
            rows = join(self.merge(jax.tree.map(lambda a: a[None], self.tail), cut(rows, 0, 1)), cut(rows, 1, None))
        n, tail = length(rows) - (begun > 0), None
        if begun:
            tail = jax.tree.map(lambda a: a[-1], rows)
        self.rows += (n << level) + begun - self.tail_rows
        self.tail, self.tail_rows, self.open = tail, begun, opened
        self._push(level, cut(rows, 0, n))
        while not self.keep and self._full >= MOST:
            blocks, n = self.blocks, self._full
            self.level, self.blocks = self.level + 1, None
            self.pending.append(None)
            self.pending[-2] = cut(blocks, n - 1, n) if n % 2 else None
            self.blocks = pairs(self.merge, cut(blocks, 0, n - n % 2))

    def _push(self, level: int, rows: Any) -> None:
        if not length(rows):
            return
        if level == self.level:
            self._parts, self._full = (*self._parts, rows), self._full + length(rows)
            return
        rows = join(self.pending[level], rows)
        n = length(rows)
        self.pending[level] = cut(rows, n - 1, n) if n % 2 else None
        if n > 1:
            self._push(level + 1, pairs(self.merge, cut(rows, 0, n - n % 2)))

    def gather(self, level: int) -> None:
        """Make the rows that wait below a level the tail, as of a group that arrives as one."""
        waiting = [row for row in reversed(self.pending[:level]) if row is not None]
        if waiting:
            self.tail = jax.tree.map(lambda a: a[0], functools.reduce(self.merge, waiting))
            self.tail_rows = self.rows & ((1 << level) - 1)
            self.pending[:level] = [None] * level

    def after(self, step: int = 0) -> tuple[np.ndarray, Any]:
        """Blocks that begin after `step`: the last step of each, and their sums; the rest that fills no block is last."""
        blocks, rest = self.blocks, [row for row in reversed(self.pending) if row is not None]
        rest += [] if self.tail is None else [jax.tree.map(lambda a: a[None], self.tail)]
        if rest:
            tail = rest[0]
            for row in rest[1:]:
                tail = self.merge(tail, row)
            blocks = join(blocks, tail)
        n = length(blocks)
        begins = self.first + np.arange(n) * self.every * 2**self.level
        ends = np.minimum(begins + (2**self.level - 1) * self.every, self.first + (self.rows - 1) * self.every)
        keep = int(np.sum(begins <= step))
        return ends[keep:], None if n == keep else cut(blocks, keep, n)
