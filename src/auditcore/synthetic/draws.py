"""Random numbers that belong to one image: they depend on the seed, a purpose and the number of the image only."""

from __future__ import annotations

import hashlib

import numpy as np


def draws_of(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Return the generator of one image for one purpose.

    Callers take only `random()` of it: NumPy promises the stream of a bit generator for ever, and uniform numbers are
    plain bits of it, while its other distributions may change with a version (NEP 19).

    Args:
        seed: Seed of the dataset.
        purpose: What the numbers are for; streams of different purposes are independent.
        number: Number of the image.
    """
    key = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))


def drawn_order(seed: int, purpose: str, number: int, count: int) -> tuple[int, ...]:
    """Return a random order of 0 to `count` - 1."""
    return tuple(np.argsort(draws_of(seed, purpose, number).random(count), kind="stable").tolist())
