"""Every test runs in float32 unless it asks for more; JAX's silent promotions of rank are errors."""

import os

import jax

# tests of several devices start processes of their own
jax.config.update("jax_numpy_rank_promotion", "allow")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
