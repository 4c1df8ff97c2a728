"""NumPy's uniform float32 numbers drawn on CUDA: the same bits as on the CPU, from the same keys.

A sweep orders the ties of every map by numbers of its own. Drawn on the host and copied, they took as long as the map's
gradient on a fast card. Philox is counter-based, so every number can be found by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from auditcore.transfer import numbers_on

BLOCK = 256
"""Counters of a program; each gives eight numbers."""

WORD = 1 << 64


def uniform_on_device(keys: Sequence[int], count: int, device: torch.device) -> Float[Tensor, "stream value"]:
    """What `numpy.random.Generator(Philox(key=key)).random(count, float32)` gives for each key.

    Args:
        keys: 128-bit keys.
        count: Numbers of each stream.
        device: A CUDA device.

    Returns:
        Values in [0, 1), whole multiples of 2^-24.

    Source: Salmon et al. 2011 (Philox4x64-10); the order of words and halves is that of NumPy's bit generator.
    """
    words = [_signed(part) for key in keys for part in (key % WORD, key // WORD)]
    values = torch.empty(len(keys), count, device=device)
    counters = -(-count // 8)
    _draw[len(keys), triton.cdiv(counters, BLOCK)](numbers_on(words, device, torch.int64), values, count, BLOCK=BLOCK)
    return values


def _signed(word: int) -> int:
    """The same 64 bits as torch's largest whole numbers hold them."""
    return word - WORD if word >= WORD // 2 else word


@triton.jit
def _draw(keys, values, count, BLOCK: tl.constexpr):
    """Eight numbers of each counter: four words of 64 bits, the lower half of each first."""
    stream = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    zero = tl.zeros([BLOCK], tl.uint64)
    key0 = tl.load(keys + 2 * stream).to(tl.uint64, bitcast=True) + zero
    key1 = tl.load(keys + 2 * stream + 1).to(tl.uint64, bitcast=True) + zero
    # NumPy counts before it draws
    word0 = (number + 1).to(tl.uint64)
    word1 = zero
    word2 = zero
    word3 = zero
    factor0 = zero + 0xD2E7470EE14C6C93
    factor1 = zero + 0xCA5A826395121157
    for _ in tl.static_range(10):
        high0 = tl.umulhi(word0, factor0)
        low0 = word0 * factor0
        high1 = tl.umulhi(word2, factor1)
        low1 = word2 * factor1
        word0 = high1 ^ word1 ^ key0
        word1 = low1
        word2 = high0 ^ word3 ^ key1
        word3 = low0
        key0 += 0x9E3779B97F4A7C15
        key1 += 0xBB67AE8584CAA73B
    place = values + stream * count
    at = number * 8
    _store_halves(place, at, word0, count)
    _store_halves(place, at + 2, word1, count)
    _store_halves(place, at + 4, word2, count)
    _store_halves(place, at + 6, word3, count)


@triton.jit
def _store_halves(place, at, word, count):
    """Both halves of words as numbers: 24 bits each, which float32 holds exactly."""
    lower = ((word & 0xFFFFFFFF) >> 8).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)
    upper = (word >> 40).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)
    tl.store(place + at, lower, mask=at < count)
    tl.store(place + at + 1, upper, mask=at + 1 < count)
