"""Integrals of a density over the cells of a plane."""

from collections.abc import Callable

import numpy as np

from .equilibrium import NotKnown

NODES = 8  # of Gauss and Legendre, in each direction of a panel
SETTLED = 1e-9  # of a panel's integral
QUARTERINGS = 14
MOST_PANELS = 20_000
CHUNK = 1 << 15  # points of one shape, so that a density compiles once


def integrate_plane(density: Callable, x_edges: np.ndarray, y_edges: np.ndarray) -> np.ndarray:
    """Integrals (nx, ny) of a density, a function of points (m, 2), over the cells between edges (nx + 1,) and (ny + 1,).

    A cell begins as four panels, which are quartered until that changes none of them by more than 1e-9: narrow valleys
    that cross wide cells are followed. Raises `NotKnown`, with the estimate, where that does not end.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    unit = (1 + np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)) / 2
    weight = np.multiply.outer(weights, weights).ravel() / 4

    def rule(corner: np.ndarray, size: np.ndarray) -> np.ndarray:
        points = (corner[:, None] + size[:, None] * unit).reshape(-1, 2)
        padded = np.resize(points, (-(-len(points) // CHUNK) * CHUNK, 2))
        values = np.concatenate([density(chunk) for chunk in padded.reshape(-1, CHUNK, 2)])[: len(points)]
        return values.reshape(len(corner), -1) @ weight * size.prod(axis=1)

    def quarters(corner: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = np.repeat(size / 2, 4, axis=0)
        return np.repeat(corner, 4, axis=0) + half * np.tile([(0, 0), (0, 1), (1, 0), (1, 1)], (len(corner), 1)), half

    product = lambda a, b: np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)  # noqa: E731
    cells = len(x_edges) - 1, len(y_edges) - 1
    corner, size = quarters(product(x_edges[:-1], y_edges[:-1]), product(np.diff(x_edges), np.diff(y_edges)))
    owner, total, whole = np.repeat(np.arange(np.prod(cells)), 4), np.zeros(np.prod(cells)), rule(corner, size)
    for _ in range(QUARTERINGS):
        finer, smaller = quarters(corner, size)
        parts = rule(finer, smaller).reshape(-1, 4)
        settled = np.abs(parts.sum(1) - whole) <= SETTLED
        total += np.bincount(owner[settled], parts.sum(1)[settled], minlength=len(total))
        if settled.all():
            return total.reshape(cells)
        left = np.repeat(~settled, 4)
        corner, size, owner, whole = finer[left], smaller[left], np.repeat(owner, 4)[left], parts[~settled].ravel()
        if len(corner) > MOST_PANELS:
            break
    raise NotKnown(
        f"probabilities of {cells[0]} × {cells[1]} cells do not settle: what is left is about {whole.sum():.3g}; the "
        "density is too narrow for them"
    )
