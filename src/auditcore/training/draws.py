"""Random generators of a training: one per purpose and step, so that a training can go on from any step."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of one purpose in one step or epoch; drawn from on the CPU.

    Philox is counter-based and its key is 128 bits of a hash, so two generators never overlap.

    Args:
        seed: The plan's seed.
        purpose: What the numbers are for, such as `order`.
        index: Number of the step or epoch.
    """
    key = hashlib.sha256(f"{seed}\0training\0{purpose}\0{index}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
