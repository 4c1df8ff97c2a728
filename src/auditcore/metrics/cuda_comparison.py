"""Comparison of pairs of maps on CUDA in five kernels, one program per pair: correlation and overlap of the top k.

With separate torch operations, comparing a map took as long as its gradient through resnet50 in bf16. The kernels avoid
writing every intermediate result to memory. Values, roundings and ties are those of `comparison` and `ranking`, which
remain the reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.metrics.constancy import FLOAT_NOISE
from auditcore.metrics.ranking import CommonPositions, Cut, shared_of_top
from auditcore.metrics.rounded_relevance import CORE_PART, RESOLVED_BITS

BLOCK, WARPS = 2048, 8
"""Positions that a program reads at once, and its warps; a map of 224 x 224 is 24.5 blocks."""

BITS = tl.constexpr(RESOLVED_BITS)
"""Number of steps between a power of two and the next, as a power of two."""

FRACTION_BITS, DROPPED_BITS = tl.constexpr(23), tl.constexpr(23 - RESOLVED_BITS)
"""Fraction bits of a float32, and how many of them are rounded away."""

LEADING_ONE, FRACTION, SIZE = tl.constexpr(1 << 23), tl.constexpr((1 << 23) - 1), tl.constexpr((1 << 31) - 1)
"""Bits of a float32: the implicit leading one, the fraction, and all bits except the sign."""

PART = tl.constexpr(CORE_PART)
"""One in this many nonzero values lies at or above the scale of a map."""

HALF_RANGE = tl.constexpr(1 << 24)
"""Integer relevance lies in (-2^24, 2^24); this offset makes it non-negative for the radix digits."""


def compare_pairs(
    before: Float[Tensor, "image position"],
    after: Float[Tensor, "image position"],
    mask: Bool[Tensor, "image position"] | None,
    k: int,
) -> tuple[Float[Tensor, " image"], Float[Tensor, " image"], Float[Tensor, " image"]]:
    """Compute correlation and overlap of the top k of each pair of maps, as defined by `correlation` and `overlap`.

    Args:
        before: One map per image.
        after: The maps to compare with.
        mask: Valid positions; None if all are valid.
        k: Number of most relevant positions, before both caps.

    Returns:
        Correlation, overlap, and the overlap expected by chance; NaN where undefined.

    Source: Tetkova & Hansen 2023.
    """
    before, after = before.contiguous(), after.contiguous()
    counted = before.new_empty(0, dtype=torch.uint8) if mask is None else mask.contiguous().view(torch.uint8)
    images, positions = before.shape
    masked = mask is not None
    facts = torch.empty(images, 10, dtype=torch.float64, device=before.device)
    sizes = {"POSITIONS": positions, "HAS_MASK": masked, "BLOCK": BLOCK, "num_warps": WARPS}
    _facts_of_pair[images,](before, after, counted, facts, **sizes)
    low, high, unfit, support = (facts[:, column : column + 8 : 4] for column in range(4))
    scale = torch.maximum(high.abs(), low.abs()).float()
    span = (high.float() - low.float()) > FLOAT_NOISE * scale
    constant = ((unfit > 0) | ~span).any(dim=1)
    count, pearson = facts[:, 8], facts[:, 9]
    k_used = torch.minimum(count - 1, support.amin(dim=1)).clamp(0, k)
    undefined = (k_used == 0) | constant
    k_used = k_used.masked_fill(undefined, 0)
    wanted = k_used.clamp(min=1).to(torch.int32)
    scales = [_scales(maps, counted, sizes) for maps in (before, after)]
    cuts = [_cuts(maps, counted, own, wanted, sizes) for maps, own in zip((before, after), scales, strict=True)]
    common = torch.empty(images, 4, dtype=torch.int32, device=before.device)
    _common_to_pair[images,](
        before,
        after,
        counted,
        *scales,
        *(level for level, _ in cuts),
        common,
        **sizes,
    )
    values, chance = shared_of_top(CommonPositions(*common.unbind(1)), cuts[0][1], cuts[1][1], wanted, count)
    return (
        pearson.clamp(-1, 1).masked_fill(constant, torch.nan).to(before.dtype),
        values.masked_fill(undefined, torch.nan).to(before.dtype),
        chance.masked_fill(undefined, torch.nan).to(before.dtype),
    )


def _scales(maps: Tensor, counted: Tensor, sizes: dict[str, int]) -> Int[Tensor, " image"]:
    """Return the biased exponent of the scale of each map; see `scale_exponent`."""
    scales = torch.empty(len(maps), dtype=torch.int32, device=maps.device)
    _scale_of_map[len(maps),](maps, counted, scales, **sizes)
    return scales


def _cuts(
    maps: Tensor, counted: Tensor, scale: Tensor, k: Int[Tensor, " image"], sizes: dict[str, int]
) -> tuple[Int[Tensor, " image"], Cut]:
    """Return the k-th largest relevance as an integer from 0, and how many positions lie above and at it."""
    level, tied, missing = (torch.empty_like(k) for _ in range(3))
    _level_of_kth[len(maps),](maps, counted, scale, k, level, tied, missing, **sizes)
    return level, Cut(k - missing, tied, missing)


@triton.jit
def _counts(mask, at, POSITIONS: tl.constexpr, HAS_MASK: tl.constexpr):
    """Return which positions of a block are valid."""
    inside = at < POSITIONS
    if HAS_MASK:
        return inside & (tl.load(mask + at, mask=inside, other=0) != 0)
    return inside


@triton.jit
def _exponent(bits):
    """Return the biased exponent of a float32 from its bits without the sign; subnormal numbers have exponent 1."""
    return tl.maximum(bits >> FRACTION_BITS, 1)


@triton.jit
def _level(value, scale):
    """Return relevance as an integer from 0, rounded as in `resolved_relevance`."""
    bits = value.to(tl.int32, bitcast=True)
    size = bits & SIZE
    exponent = _exponent(size)
    digits = tl.where(size > FRACTION, (size & FRACTION) | LEADING_ONE, size)
    # a shift this large leaves no digits
    shift = tl.minimum(tl.maximum(scale - exponent, 0), BITS + 2) + DROPPED_BITS
    one = tl.full(shift.shape, 1, tl.int32)
    rest, half = digits & ((one << shift) - 1), one << (shift - 1)
    whole = digits >> shift
    # halves to even
    whole += ((rest > half) | ((rest == half) & ((whole & 1) == 1))).to(tl.int32)
    steps = (tl.maximum(exponent - scale, 0) << BITS) + whole
    level = tl.where(bits < 0, -steps, steps) + HALF_RANGE
    # NaN has no level; such pairs are undefined, but their index must stay inside the histogram
    return tl.minimum(tl.maximum(level, 0), 2 * HALF_RANGE - 1)


@triton.jit
def _facts_of_pair(a, b, mask, facts, POSITIONS: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr):
    """Compute extremes, count of non-finite values and support of both maps, number of valid positions, correlation."""
    row = tl.program_id(0).to(tl.int64)
    a += row * POSITIONS
    b += row * POSITIONS
    if HAS_MASK:
        mask += row * POSITIONS
    facts += row * 10
    lanes = tl.arange(0, BLOCK)
    low_a = tl.full([BLOCK], float("inf"), tl.float32)
    low_b = tl.full([BLOCK], float("inf"), tl.float32)
    high_a = tl.full([BLOCK], float("-inf"), tl.float32)
    high_b = tl.full([BLOCK], float("-inf"), tl.float32)
    unfit_a = tl.zeros([BLOCK], tl.int32)
    unfit_b = tl.zeros([BLOCK], tl.int32)
    support_a = tl.zeros([BLOCK], tl.int32)
    support_b = tl.zeros([BLOCK], tl.int32)
    count = tl.zeros([BLOCK], tl.int32)
    sum_a = tl.zeros([BLOCK], tl.float64)
    sum_b = tl.zeros([BLOCK], tl.float64)
    for start in range(0, POSITIONS, BLOCK):
        at = start + lanes
        counted = _counts(mask, at, POSITIONS, HAS_MASK)
        value_a = tl.load(a + at, mask=counted, other=0.0)
        value_b = tl.load(b + at, mask=counted, other=0.0)
        low_a = tl.where(counted, tl.minimum(low_a, value_a), low_a)
        low_b = tl.where(counted, tl.minimum(low_b, value_b), low_b)
        high_a = tl.where(counted, tl.maximum(high_a, value_a), high_a)
        high_b = tl.where(counted, tl.maximum(high_b, value_b), high_b)
        # a comparison with NaN is false
        unfit_a += (counted & ~(tl.abs(value_a) < float("inf"))).to(tl.int32)
        unfit_b += (counted & ~(tl.abs(value_b) < float("inf"))).to(tl.int32)
        support_a += (counted & (value_a != 0)).to(tl.int32)
        support_b += (counted & (value_b != 0)).to(tl.int32)
        count += counted.to(tl.int32)
        sum_a += value_a.to(tl.float64)
        sum_b += value_b.to(tl.float64)
    lowest_a = tl.min(low_a, 0)
    lowest_b = tl.min(low_b, 0)
    highest_a = tl.max(high_a, 0)
    highest_b = tl.max(high_b, 0)
    total = tl.sum(count, 0)
    # scaled by the largest value, so that squares of tiny gradients do not underflow
    scale_a = 1.0 / tl.maximum(tl.abs(highest_a), tl.abs(lowest_a)).to(tl.float64)
    scale_b = 1.0 / tl.maximum(tl.abs(highest_b), tl.abs(lowest_b)).to(tl.float64)
    mean_a = tl.sum(sum_a, 0) * scale_a / total
    mean_b = tl.sum(sum_b, 0) * scale_b / total
    squares_a = tl.zeros([BLOCK], tl.float64)
    squares_b = tl.zeros([BLOCK], tl.float64)
    products = tl.zeros([BLOCK], tl.float64)
    for start in range(0, POSITIONS, BLOCK):
        at = start + lanes
        counted = _counts(mask, at, POSITIONS, HAS_MASK)
        value_a = tl.load(a + at, mask=counted, other=0.0).to(tl.float64) * scale_a - mean_a
        value_b = tl.load(b + at, mask=counted, other=0.0).to(tl.float64) * scale_b - mean_b
        value_a = tl.where(counted, value_a, 0.0)
        value_b = tl.where(counted, value_b, 0.0)
        squares_a += value_a * value_a
        squares_b += value_b * value_b
        products += value_a * value_b
    lengths = tl.sqrt(tl.sum(squares_a, 0)) * tl.sqrt(tl.sum(squares_b, 0))
    tl.store(facts, lowest_a.to(tl.float64))
    tl.store(facts + 1, highest_a.to(tl.float64))
    tl.store(facts + 2, tl.sum(unfit_a, 0).to(tl.float64))
    tl.store(facts + 3, tl.sum(support_a, 0).to(tl.float64))
    tl.store(facts + 4, lowest_b.to(tl.float64))
    tl.store(facts + 5, highest_b.to(tl.float64))
    tl.store(facts + 6, tl.sum(unfit_b, 0).to(tl.float64))
    tl.store(facts + 7, tl.sum(support_b, 0).to(tl.float64))
    tl.store(facts + 8, total.to(tl.float64))
    tl.store(facts + 9, tl.sum(products, 0) / lengths)


@triton.jit
def _digit_of_kth(histogram, k, BINS: tl.constexpr):
    """Return the bin that contains the k-th largest value, and how many values of that bin are among the k largest."""
    bins = tl.arange(0, BINS)
    reaching = tl.sum(histogram, 0) - tl.cumsum(histogram, 0) + histogram
    digit = tl.sum((reaching >= k).to(tl.int32), 0) - 1
    above = tl.sum(tl.where(bins > digit, histogram, 0), 0)
    return digit, k - above


@triton.jit
def _scale_of_map(maps, mask, scales, POSITIONS: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr):
    """Compute the exponent of the value that one in ten nonzero values reach or exceed."""
    row = tl.program_id(0).to(tl.int64)
    maps += row * POSITIONS
    if HAS_MASK:
        mask += row * POSITIONS
    lanes = tl.arange(0, BLOCK)
    histogram = tl.zeros([256], tl.int32)
    for start in range(0, POSITIONS, BLOCK):
        at = start + lanes
        counted = _counts(mask, at, POSITIONS, HAS_MASK)
        size = tl.load(maps + at, mask=counted, other=0.0).to(tl.int32, bitcast=True) & SIZE
        histogram += tl.histogram(_exponent(size), 256, mask=counted & (size != 0))
    support = tl.sum(histogram, 0)
    scale, _ = _digit_of_kth(histogram, tl.maximum((support + PART - 1) // PART, 1), 256)
    tl.store(scales + row, tl.maximum(scale, 1))


@triton.jit
def _level_of_kth(
    maps,
    mask,
    scales,
    ks,
    levels,
    tied,
    missing,
    POSITIONS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Find the k-th largest relevance, digit by digit, how many positions have it, and how many of these the k need."""
    row = tl.program_id(0).to(tl.int64)
    maps += row * POSITIONS
    if HAS_MASK:
        mask += row * POSITIONS
    scale = tl.load(scales + row)
    k = tl.load(ks + row)
    lanes = tl.arange(0, BLOCK)

    histogram = tl.zeros([512], tl.int32)
    for start in range(0, POSITIONS, BLOCK):
        at = start + lanes
        counted = _counts(mask, at, POSITIONS, HAS_MASK)
        level = _level(tl.load(maps + at, mask=counted, other=0.0), scale)
        histogram += tl.histogram(level >> 16, 512, mask=counted)
    value, k = _digit_of_kth(histogram, k, 512)

    equal = 0
    for digit in tl.static_range(2):
        shift = 8 - 8 * digit
        histogram = tl.zeros([256], tl.int32)
        for start in range(0, POSITIONS, BLOCK):
            at = start + lanes
            counted = _counts(mask, at, POSITIONS, HAS_MASK)
            level = _level(tl.load(maps + at, mask=counted, other=0.0), scale)
            histogram += tl.histogram((level >> shift) & 255, 256, mask=counted & ((level >> (shift + 8)) == value))
        found, k = _digit_of_kth(histogram, k, 256)
        value = value * 256 + found
        equal = tl.sum(tl.where(tl.arange(0, 256) == found, histogram, 0), 0)
    tl.store(levels + row, value)
    tl.store(tied + row, equal)
    tl.store(missing + row, k)


@triton.jit
def _common_to_pair(
    a,
    b,
    mask,
    scales_a,
    scales_b,
    cuts_a,
    cuts_b,
    common,
    POSITIONS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count the positions above or at the cuts of both maps, in the order of `CommonPositions`."""
    row = tl.program_id(0).to(tl.int64)
    a += row * POSITIONS
    b += row * POSITIONS
    if HAS_MASK:
        mask += row * POSITIONS
    common += row * 4
    scale_a = tl.load(scales_a + row)
    scale_b = tl.load(scales_b + row)
    cut_a = tl.load(cuts_a + row)
    cut_b = tl.load(cuts_b + row)
    lanes = tl.arange(0, BLOCK)
    above_both = tl.zeros([BLOCK], tl.int32)
    above_first = tl.zeros([BLOCK], tl.int32)
    above_second = tl.zeros([BLOCK], tl.int32)
    tied_both = tl.zeros([BLOCK], tl.int32)
    for start in range(0, POSITIONS, BLOCK):
        at = start + lanes
        counted = _counts(mask, at, POSITIONS, HAS_MASK)
        level_a = _level(tl.load(a + at, mask=counted, other=0.0), scale_a)
        level_b = _level(tl.load(b + at, mask=counted, other=0.0), scale_b)
        above_both += (counted & (level_a > cut_a) & (level_b > cut_b)).to(tl.int32)
        above_first += (counted & (level_a > cut_a) & (level_b == cut_b)).to(tl.int32)
        above_second += (counted & (level_a == cut_a) & (level_b > cut_b)).to(tl.int32)
        tied_both += (counted & (level_a == cut_a) & (level_b == cut_b)).to(tl.int32)
    tl.store(common, tl.sum(above_both, 0))
    tl.store(common + 1, tl.sum(above_first, 0))
    tl.store(common + 2, tl.sum(above_second, 0))
    tl.store(common + 3, tl.sum(tied_both, 0))
