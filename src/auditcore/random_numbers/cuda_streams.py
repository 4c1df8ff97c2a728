"""NumPy's float32 random numbers drawn on CUDA: the same numbers as on the CPU, from the same keys.

A map of random numbers takes 1.5 ms of one CPU core, while a compiled resnet50 on an H200 gives a gradient in 0.09 ms.
So the numbers that each copy of an image needs are drawn on the GPU. Philox is counter-based: every word of a stream
can be computed independently.

Uniform numbers are bit-for-bit the same. So are normal ones, except in the tails beyond 3.65 (one number in 3700),
where the logarithm of the C library may round the last bit differently. NumPy draws them with Marsaglia and Tsang's
ziggurat: a word gives a number directly, or needs further words and may be rejected. Which words begin a trial thus
depends on the words before. A trial that needs more words is rare, so a few earlier words are enough to know.

Source: Salmon et al. 2011 (Philox4x64-10); Marsaglia & Tsang 2000; NumPy's `distributions.c` for the order of words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from auditcore.devices.transfer import numbers_on

BLOCK = 256
"""Counters per program; each counter gives eight words of 32 bits."""

TRIALS = 1024
"""Words per program when it draws normal numbers."""

CHECKED = 20_000
"""Numbers per stream that a device must draw correctly before it is trusted; on average, six are in the tails."""

WORD = 1 << 64

WORDS_A_NUMBER, MORE_WORDS = 1.03, 256
"""Words prepared per normal number, plus a fixed reserve; 1.022 per number are needed on average."""

LOOK_BACK = tl.constexpr(24)
"""Earlier words that are read to find out which words begin a trial. Two walks that start at different words agree
after the first trial that needs no further words, as 98 in 100 do, so it is less and less likely that they differ."""

GIVES, MORE = tl.constexpr(16), tl.constexpr(15)
"""Bits of a word's code: whether a trial that begins there gives a number, and how many further words it uses."""

TAIL_TRIES = tl.constexpr(7)
"""Attempts to draw from the tail; each fails one time in 15."""

TAIL, AREA, STEPS = 3.6541528853610088, 0.00492867323399, 256
"""Start of the ziggurat's tail, area of each step, number of steps."""

TAIL_BEGINS = tl.constexpr(TAIL)
TAIL_SCALE = tl.constexpr(0.27366123732975828)


def uniform_on_device(keys: Sequence[int], count: int, device: torch.device) -> Float[Tensor, "stream value"]:
    """Return `numpy.random.Generator(Philox(key=key)).random(count, float32)` for each key.

    Args:
        keys: 128-bit keys.
        count: Numbers per stream.
        device: A CUDA device.

    Returns:
        Values in [0, 1), whole multiples of 2^-24.
    """
    values = torch.empty(len(keys), count, device=device)
    _draw_uniform[len(keys), _blocks(count)](_words_of(keys, device), values, count, BLOCK=BLOCK)
    return values


def normal_on_device(keys: Sequence[int], count: int, device: torch.device) -> Float[Tensor, "stream value"]:
    """Return `numpy.random.Generator(Philox(key=key)).standard_normal(count, float32)` for each key.

    Args:
        keys: 128-bit keys.
        count: Numbers per stream.
        device: A CUDA device.
    """
    streams = len(keys)
    length = 8 * -(-(int(WORDS_A_NUMBER * count) + MORE_WORDS) // 8)
    words = torch.empty(streams, length, dtype=torch.int32, device=device)
    codes = torch.empty(streams, length, dtype=torch.int8, device=device)
    drawn = torch.empty(streams, length, device=device)
    blocks = triton.cdiv(length, TRIALS)
    given = torch.empty(streams, blocks, dtype=torch.int32, device=device)
    values = torch.empty(streams, count, device=device)
    least, width, height = _ziggurat_on(device)
    _draw_words[streams, _blocks(length)](_words_of(keys, device), words, length, BLOCK=BLOCK)
    _try_words[streams, blocks](words, codes, drawn, least, width, height, length, BLOCK=TRIALS)
    _count_given[streams, blocks](codes, given, length, blocks, BLOCK=TRIALS)
    before = given.cumsum(dim=1) - given
    _place_given[streams, blocks](codes, drawn, before, values, length, count, blocks, BLOCK=TRIALS)
    return values


@functools.cache
def draws_as_the_host(device: torch.device) -> bool:
    """Return whether a device draws NumPy's numbers; tested once per device, on a few streams.

    A driver or compiler that breaks these kernels must cost time, not reproducibility.
    """
    keys = [number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % WORD**2 for number in range(1, 5)]
    hosts = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
    try:
        uniform = uniform_on_device(keys, CHECKED, device).cpu().numpy()
        normal = normal_on_device(keys, CHECKED, device).cpu().numpy()
    # compilers and drivers fail in many ways; the host draws the numbers then
    except Exception:  # noqa: BLE001
        return False
    same = np.array_equal(uniform, np.stack([host.random(CHECKED, dtype=np.float32) for host in hosts]))
    hosts = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
    expected = np.stack([host.standard_normal(CHECKED, dtype=np.float32) for host in hosts])
    return same and bool(np.allclose(normal, expected, rtol=1e-6, atol=0))


def ziggurat() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute NumPy's float32 ziggurat tables for the normal distribution.

    Returns:
        For each of 256 steps: the 23-bit number below which a word is accepted directly (uint32), the factor for such a
        number, and the density at the step's edge (both float32).

    Source: Marsaglia & Tsang 2000.
    """
    scale = float(1 << 23)
    least, width, height = np.zeros(STEPS), np.zeros(STEPS), np.ones(STEPS)
    edge = TAIL
    height[-1] = math.exp(-0.5 * edge * edge)
    width[-1], width[0] = edge / scale, AREA / height[-1] / scale
    least[0] = edge * height[-1] / AREA * scale
    for step in range(STEPS - 2, 0, -1):
        inner = math.sqrt(-2 * math.log(AREA / edge + height[step + 1]))
        least[step + 1] = inner / edge * scale
        width[step], height[step] = inner / scale, math.exp(-0.5 * inner * inner)
        edge = inner
    return np.rint(least).astype(np.uint32), width.astype(np.float32), height.astype(np.float32)


@functools.cache
def _ziggurat_on(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    least, width, height = ziggurat()
    return tuple(torch.from_numpy(table).to(device) for table in (least.astype(np.int32), width, height))  # type: ignore[return-value]


def _words_of(keys: Sequence[int], device: torch.device) -> Tensor:
    """Return both halves of each key as int64."""
    halves = [part for key in keys for part in (key % WORD, key // WORD)]
    return numbers_on([half - WORD if half >= WORD // 2 else half for half in halves], device, torch.int64)


def _blocks(count: int) -> int:
    """Return the number of programs that draw `count` numbers or words."""
    return -(-count // (8 * BLOCK))


@triton.jit
def _philox(keys, number):
    """Compute four words of 64 bits for each counter."""
    stream = tl.program_id(0).to(tl.int64)
    # NumPy increments the counter before it draws
    word0 = (number + 1).to(tl.uint64)
    zero = word0 - word0
    word1 = zero
    word2 = zero
    word3 = zero
    key0 = tl.load(keys + 2 * stream).to(tl.uint64, bitcast=True) + zero
    key1 = tl.load(keys + 2 * stream + 1).to(tl.uint64, bitcast=True) + zero
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
    return word0, word1, word2, word3


@triton.jit
def _draw_uniform(keys, values, count, BLOCK: tl.constexpr):
    """Draw eight uniform numbers per counter."""
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    word0, word1, word2, word3 = _philox(keys, number)
    place = values + tl.program_id(0).to(tl.int64) * count
    at = number * 8
    _store_uniform(place, at, word0, count)
    _store_uniform(place, at + 2, word1, count)
    _store_uniform(place, at + 4, word2, count)
    _store_uniform(place, at + 6, word3, count)


@triton.jit
def _store_uniform(place, at, word, count):
    """Store both halves of words as numbers, the lower first: 24 bits each, which float32 represents exactly."""
    lower = ((word & 0xFFFFFFFF) >> 8).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)
    upper = (word >> 40).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)
    tl.store(place + at, lower, mask=at < count)
    tl.store(place + at + 1, upper, mask=at + 1 < count)


@triton.jit
def _draw_words(keys, words, count, BLOCK: tl.constexpr):
    """Draw eight words of 32 bits per counter."""
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    word0, word1, word2, word3 = _philox(keys, number)
    place = words + tl.program_id(0).to(tl.int64) * count
    at = number * 8
    _store_words(place, at, word0, count)
    _store_words(place, at + 2, word1, count)
    _store_words(place, at + 4, word2, count)
    _store_words(place, at + 6, word3, count)


@triton.jit
def _store_words(place, at, word, count):
    """Store both halves of words, the lower first."""
    tl.store(place + at, (word & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True), mask=at < count)
    tl.store(place + at + 1, (word >> 32).to(tl.uint32).to(tl.int32, bitcast=True), mask=at + 1 < count)


@triton.jit
def _uniform_of(words, at, wanted):
    """Convert words to numbers in [0, 1)."""
    word = tl.load(words + at, mask=wanted, other=0).to(tl.uint32, bitcast=True)
    return (word >> 8).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)


@triton.jit
def _log_of_rest(uniform):
    """Compute log(1 - u), rounded once."""
    return tl.log(1.0 - uniform.to(tl.float64)).to(tl.float32)


@triton.jit
def _try_words(words, codes, drawn, least, width, height, length, BLOCK: tl.constexpr):
    """Compute what a trial that begins at each word gives: a number or none, and how many further words it uses.

    Each sum and product of float32 goes through float64, so that no compiler fuses two of them into one rounding.
    """
    row = tl.program_id(0).to(tl.int64) * length
    words += row
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < length
    word = tl.load(words + at, mask=inside, other=0).to(tl.uint32, bitcast=True)
    step = (word & 255).to(tl.int32)
    number = ((word >> 9) & 0x7FFFFF).to(tl.int32)
    value = number.to(tl.float32) * tl.load(width + step)
    value = tl.where(((word >> 8) & 1) != 0, -value, value)
    refused = inside & (number >= tl.load(least + step))

    wedge = refused & (step != 0)
    lower = tl.load(height + step)
    drop = (tl.load(height + tl.maximum(step - 1, 0)).to(tl.float64) - lower.to(tl.float64)).to(tl.float32)
    part = (drop.to(tl.float64) * _uniform_of(words, at + 1, wedge & (at + 1 < length)).to(tl.float64)).to(tl.float32)
    level = (part.to(tl.float64) + lower.to(tl.float64)).to(tl.float32)
    wide = value.to(tl.float64)
    below = level.to(tl.float64) < tl.exp(-0.5 * wide * wide)

    tail = refused & (step == 0)
    open_ = tail
    beyond = tl.zeros([BLOCK], tl.float32)
    further = tl.zeros([BLOCK], tl.int32)
    for attempt in tl.static_range(TAIL_TRIES):
        first = at + 1 + 2 * attempt
        ready = open_ & (first + 1 < length)
        candidate = -TAIL_SCALE * _log_of_rest(_uniform_of(words, first, ready))
        other = -_log_of_rest(_uniform_of(words, first + 1, ready))
        beyond = tl.where(open_, candidate, beyond)
        further = tl.where(open_, 2 * attempt + 2, further)
        open_ = open_ & ~(other + other > candidate * candidate)
    end = TAIL_BEGINS + beyond
    value = tl.where(tail, tl.where(((number >> 8) & 1) != 0, -end, end), value)

    more = tl.where(wedge, 1, further)
    gives = inside & (~wedge | below)
    tl.store(codes + row + at, (more + GIVES * gives.to(tl.int32)).to(tl.int8), mask=inside)
    tl.store(drawn + row + at, value, mask=inside)


@triton.jit
def _gives(codes, at, length):
    """Find the words that begin a trial that gives a number: walk there from a few words before."""
    taken = tl.zeros_like(at)
    for back in tl.static_range(LOOK_BACK):
        before = at - (LOOK_BACK - back)
        code = tl.load(codes + before, mask=(before >= 0) & (before < length), other=0).to(tl.int32)
        taken = tl.where(taken > 0, taken - 1, code & MORE)
    own = tl.load(codes + at, mask=at < length, other=0).to(tl.int32)
    return (taken == 0) & ((own & GIVES) != 0)


@triton.jit
def _count_given(codes, given, length, blocks, BLOCK: tl.constexpr):
    """Count the numbers that the words of each block give."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64)
    found = _gives(codes + row * length, at, length)
    tl.store(given + row * blocks + tl.program_id(1), tl.sum(found.to(tl.int32), 0))


@triton.jit
def _place_given(codes, drawn, before, values, length, count, blocks, BLOCK: tl.constexpr):
    """Compact the numbers, in the order of their words."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64)
    found = _gives(codes + row * length, at, length)
    place = tl.load(before + row * blocks + tl.program_id(1)) + tl.cumsum(found.to(tl.int32), 0) - 1
    value = tl.load(drawn + row * length + at, mask=found, other=0.0)
    tl.store(values + row * count + place, value, mask=found & (place < count))
