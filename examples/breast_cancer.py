"""Bayesian logistic regression on the breast-cancer data that scikit-learn ships (569 × 30): the posterior and its scores.

    p(y = 1 | x, w) = σ(w₀ + w·x),      w ~ N(0, 1) for every coefficient

Features are standardised by the training part. The posterior's means and variances are stored in
`breast_cancer_posterior.json`, from a long run of BlackJAX's NUTS that `tests/test_reference.py` (slow) repeats.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heatbath import potentials

REFERENCE = pathlib.Path(__file__).parent / "breast_cancer_posterior.json"


class Data(NamedTuple):
    """Training and test parts, each (features (n, 31) with a leading column of ones, labels (n,))."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    names: list[str]

    @property
    def parameters(self) -> int:
        return self.train[0].shape[1]


def load() -> Data:
    """Every fourth example is for testing; nothing is random."""
    from sklearn.datasets import load_breast_cancer

    raw: Any = load_breast_cancer()
    test = np.arange(len(raw.target)) % 4 == 0
    mean, deviation = raw.data[~test].mean(0), raw.data[~test].std(0)
    features = np.column_stack([np.ones(len(raw.target)), (raw.data - mean) / deviation]).astype(np.float32)
    labels = raw.target.astype(np.float32)
    parts = [(features[rows], labels[rows]) for rows in (~test, test)]
    return Data(*parts, names=["intercept", *map(str, raw.feature_names)])


def log_likelihood(weights: jax.Array, example: tuple[jax.Array, jax.Array]) -> jax.Array:
    """log p(y | x, w) of one example."""
    features, label = example
    return jax.nn.log_sigmoid((2 * label - 1) * jnp.dot(features, weights))


def log_prior(weights: jax.Array) -> jax.Array:
    """log of a standard normal density, up to its constant."""
    return -0.5 * jnp.sum(weights**2)


def posterior(data: Data, **options: Any) -> potentials.Posterior:
    """The posterior given the training part."""
    return potentials.Posterior(log_likelihood, log_prior, data=data.train, **options)


def predictor(features: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """From weights to the probability of class 1 for each row of features."""
    return lambda weights: jax.nn.sigmoid(features @ weights)


def score(probability: np.ndarray, labels: np.ndarray, bins: int = 10) -> dict[str, float]:
    """Accuracy, mean negative log likelihood, and expected calibration error (ten bins of confidence)."""
    right = (probability > 0.5) == (labels > 0.5)
    likelihood = np.where(labels > 0.5, probability, 1 - probability)
    confidence = np.maximum(probability, 1 - probability)
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = [np.abs(np.sum(right[place == b]) - np.sum(confidence[place == b])) for b in range(bins)]
    return {
        "accuracy": float(right.mean()),
        "nll": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        "calibration error": float(np.sum(gaps) / len(labels)),
    }


def reference() -> dict[str, np.ndarray]:
    """Stored means and variances of the 31 weights, with their standard errors."""
    return {name: np.asarray(value) for name, value in json.loads(REFERENCE.read_text())["digits"].items()}
