"""Writes examples/breast_cancer_posterior.json: a long run of BlackJAX's NUTS in float64. Some minutes on two cores."""

import json
import pathlib
import sys
import time
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import blackjax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))
import breast_cancer

ENERGY = pathlib.Path(__file__).parent / "results" / "breast_cancer_energy.npz"  # for `integrators.py`
STARTS = 512


def sample(chains: int, warmup: int, draws: int, seed: int) -> np.ndarray:
    """Draws (chains, draws, parameters) after window adaptation of each chain's own."""
    data = breast_cancer.load()
    features, labels = (jnp.asarray(a, jnp.float64) for a in data.train)

    def log_density(w: Any) -> Any:
        return jnp.sum(jax.nn.log_sigmoid((2 * labels - 1) * (features @ w))) + breast_cancer.log_prior(w)

    def chain(key: Any) -> Any:
        first, second, third = jax.random.split(key, 3)
        adapt = blackjax.window_adaptation(blackjax.nuts, log_density)
        start = 0.1 * jax.random.normal(first, (data.parameters,))
        (state, parameters), _ = adapt.run(second, start, num_steps=warmup)
        kernel = blackjax.nuts(log_density, **parameters).step

        def body(state: Any, key: Any) -> Any:
            state, _ = kernel(key, state)
            return state, state.position

        return jax.lax.scan(body, state, jax.random.split(third, draws))[1]

    return np.concatenate(
        [np.asarray(jax.jit(chain)(key))[None] for key in jax.random.split(jax.random.key(seed), chains)]
    )


def digits(samples: np.ndarray) -> dict[str, list[float]]:
    """Means and variances with standard errors from the spread of batches of each chain."""
    chains, draws, d = samples.shape
    batches = samples.reshape(chains * 20, draws // 20, d)
    mean = samples.mean((0, 1))
    squares = ((batches - mean) ** 2).mean(1)
    error = lambda a: a.std(0, ddof=1) / np.sqrt(len(a))  # noqa: E731
    found = {
        "mean": mean,
        "mean_error": error(batches.mean(1)),
        "variance": squares.mean(0),
        "variance_error": error(squares),
    }
    return {name: [float(f"{x:.9g}") for x in value] for name, value in found.items()}


def energy(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, standard error and variance of the energy, and draws far apart, where benchmarks start."""
    potential = breast_cancer.posterior(breast_cancer.load())
    values = np.asarray(jax.lax.map(potential, jnp.asarray(samples.reshape(-1, samples.shape[-1])), batch_size=1_000))
    found = digits(values.reshape(*samples.shape[:2], 1))
    start = samples.reshape(-1, samples.shape[-1])[:: samples.shape[0] * samples.shape[1] // STARTS][:STARTS]
    return {
        "energy": np.array([found["mean"][0], found["mean_error"][0], found["variance"][0]]),
        "start": start.astype(np.float32),
    }


def main() -> None:
    began = time.monotonic()
    chains, warmup, draws = 4, 1_000, 20_000
    samples = sample(chains, warmup, draws, seed=20)
    np.savez_compressed(ENERGY, **energy(samples))
    found = digits(samples)
    header = {
        "what": "posterior of w in examples/breast_cancer.py",
        "how": f"BlackJAX {blackjax.__version__} NUTS, {chains} chains of {draws} draws after {warmup} of adaptation, "
        f"float64, jax {jax.__version__}; errors from 20 batches a chain",
        "digits": found,
    }
    breast_cancer.REFERENCE.write_text(json.dumps(header, indent=1) + "\n")
    print(f"{time.monotonic() - began:.0f} s; mean error at most {max(found['mean_error']):.2g}")


if __name__ == "__main__":
    main()
