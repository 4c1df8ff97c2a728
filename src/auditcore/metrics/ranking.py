"""Exact rankings: k is always k, and the position of equal values decides nothing.

Quantile thresholds select everything on a sparse map, and ties that fall back on the position make
unrelated sparse maps agree. Where an order is needed, an explicit tie-breaker for every position decides, drawn
from the image's own random stream. Where two maps are compared, tied positions share the places that are left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.comparison import MaskedMaps


class TopKOverlap(NamedTuple):
    """Agreement of two maps on their most relevant positions.

    Attributes:
        values: Common share of the top k, in [0, 1]; 1 for equal maps; NaN where undefined.
        k_used: The k that was used, after both caps; 0 where undefined.
        chance: What `values` is on average if one of the maps is shuffled; k_used / masked positions if no ties
            straddle the cuts; NaN where undefined.
    """

    values: Float[Tensor, " image"]
    k_used: Int[Tensor, " image"]
    chance: Float[Tensor, " image"]


class Cut(NamedTuple):
    """Where the k most relevant positions of each map end.

    Attributes:
        above: Positions above the k-th largest value.
        tied: Positions that have this value, at least 1.
        missing: How many of the tied ones belong to the k: k - above, from 1 to `tied`.
    """

    above: Int[Tensor, " image"]
    tied: Int[Tensor, " image"]
    missing: Int[Tensor, " image"]


class CommonPositions(NamedTuple):
    """How many positions lie above or at the cuts of two maps.

    Attributes:
        above_both: Above both cuts.
        above_first: Above the cut of the first map, tied at that of the second.
        above_second: Tied at the cut of the first map, above that of the second.
        tied_both: Tied at both cuts.
    """

    above_both: Int[Tensor, " image"]
    above_first: Int[Tensor, " image"]
    above_second: Int[Tensor, " image"]
    tied_both: Int[Tensor, " image"]


def rank_descending(
    values: Float[Tensor, "image pixel"], tie_breakers: Float[Tensor, "..."]
) -> Int[Tensor, "image pixel"]:
    """Positions from the most to the least relevant.

    Args:
        values: Relevance, any sign.
        tie_breakers: Random numbers of the same shape; among equal values the larger one goes first.

    Returns:
        A permutation a row: element 0 is the position of the largest value. For the ascending order
        rank the negated values.

    Raises:
        ShapeError: Not one tie-breaker a value.
    """
    _require_shape(tie_breakers, values)
    by_chance = tie_breakers.argsort(dim=1, descending=True, stable=True)
    by_value = values.gather(1, by_chance).argsort(dim=1, descending=True, stable=True)
    return by_chance.gather(1, by_value)


def top_k_mask(
    values: Float[Tensor, "image position"],
    k: Int[Tensor, " image"] | int,
    tie_breakers: Float[Tensor, "..."],
) -> Bool[Tensor, "image position"]:
    """The k most relevant positions: exactly k, ties at the k-th value resolved by the tie-breakers.

    Args:
        values: Relevance, any sign; -inf marks positions that must not be chosen.
        k: Number of positions, one for all images or one an image, from 0 to the number of positions.
        tie_breakers: Random numbers of the same shape; among equal values the larger one is chosen.

    Returns:
        A mask with exactly k positions an image.

    Raises:
        ShapeError: Not one tie-breaker a value, or k out of range.
    """
    _require_shape(tie_breakers, values)
    images, positions = values.shape
    counts = torch.as_tensor(k, device=values.device).expand(images)
    least, most = (int(bound) for bound in counts.aminmax()) if images else (0, 0)
    if not 0 <= least <= most <= positions:
        raise ShapeError(expected=f"k from 0 to {positions}", actual=k)
    if most == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    last = _kth_largest(values, counts.clamp(min=1), most)
    reaching = values >= last
    if least > 0 and torch.equal(reaching.sum(dim=1), counts):
        return reaching
    above = values > last
    missing = counts - above.sum(dim=1)
    lottery = tie_breakers.masked_fill(values != last, -torch.inf).topk(most, dim=1).indices
    winners = torch.arange(most, device=values.device) < missing[:, None]
    return above.scatter(1, lottery, winners | above.gather(1, lottery))


def _kth_largest(
    values: Float[Tensor, "image position"], counts: Int[Tensor, " image"], most: int
) -> Float[Tensor, "image 1"]:
    """Each row's own k-th largest value, by a partial selection instead of a sort.

    Args:
        values: Relevance.
        counts: k of each row, from 1 to `most`.
        most: The largest k.
    """
    if values.device.type != "cpu":
        return values.topk(most, dim=1).values.gather(1, counts[:, None] - 1)
    # NumPy selects values alone, with vector instructions: 4 times as fast as torch's topk for k = 1000 of 50176
    places = values.shape[1] - counts[:, None]
    selected = np.partition(values.numpy(), np.unique(places.numpy()), axis=1)
    return torch.from_numpy(np.take_along_axis(selected, places.numpy(), axis=1))


def top_k_overlap(
    a: Float[Tensor, "image position"], b: Float[Tensor, "..."], mask: Bool[Tensor, "..."], k: int
) -> TopKOverlap:
    """Common share of the k most relevant positions of two maps; without ties |top-k(a) and top-k(b)| / k.

    Each position belongs to the top k of a map by a degree m: 1 above the k-th largest value, 0 below it, and among
    the positions that have this value, the same share for each: missing / tied. The overlap is the sum of
    min(m_a, m_b) over the positions, divided by k. This is what one random order of the ties gives on average if it
    serves both maps. Independent orders would take an unchanged map for a changed one.

    k is capped below the number of masked positions, where the overlap would always be 1, and at the
    smaller number of non-zero values of the two maps, beyond which a map has nothing to say.

    Args:
        a: Relevance; pixels, or flattened channel values where a plan asks for that.
        b: Relevance of the map it is compared with, of the same shape.
        mask: Positions that count.
        k: Positions asked for, at least 1.

    Returns:
        Overlap, the k used and the level of chance. Undefined where a map is constant or zero on the
        mask, or fewer than two positions count.

    Raises:
        ShapeError: The shapes do not fit.

    Source: Tetkova & Hansen 2023, with k = 1000; ties by the minimum, the intersection of fuzzy sets (Zadeh 1965).
    """
    for other in (b, mask):
        _require_shape(other, a)
    return overlap(MaskedMaps(a, mask), MaskedMaps(b, mask), k)


def overlap(a: MaskedMaps, b: MaskedMaps, k: int) -> TopKOverlap:
    """The same as `top_k_overlap`, of maps of which much is known."""
    k_used = torch.stack((a.positions - 1, a.support, b.support)).amin(dim=0).clamp(0, k)
    undefined = (k_used == 0) | a.constant | b.constant
    k_used = k_used.masked_fill(undefined, 0)
    # the largest k is the device's answer, for which the host would wait at every micro-batch; the cap is known
    most = min(k, a.values.shape[1])
    counts = k_used.clamp(min=1)
    lasts = [_kth_largest(maps.ranked, counts, most) for maps in (a, b)]
    above = [maps.ranked > last for maps, last in zip((a, b), lasts, strict=True)]
    tied = [maps.ranked == last for maps, last in zip((a, b), lasts, strict=True)]
    cuts = [_cut(higher, equal, counts) for higher, equal in zip(above, tied, strict=True)]
    common = CommonPositions(
        *((first & second).sum(dim=1) for first in (above[0], tied[0]) for second in (above[1], tied[1]))
    )
    values, chance = shared_of_top(common, cuts[0], cuts[1], counts, a.positions)
    return TopKOverlap(
        values=values.masked_fill(undefined, torch.nan).to(a.values.dtype),
        k_used=k_used,
        chance=chance.masked_fill(undefined, torch.nan).to(a.values.dtype),
    )


def shared_of_top(
    common: CommonPositions, first: Cut, second: Cut, k: Int[Tensor, " image"], positions: Int[Tensor, " image"]
) -> tuple[Float[Tensor, " image"], Float[Tensor, " image"]]:
    """Overlap and its level of chance from counts, which are whole numbers and therefore exact.

    Args:
        common: Positions by where they lie in both maps.
        first: The cut of the first map.
        second: The cut of the second map.
        k: Most relevant positions, at least 1.
        positions: Positions that count.

    Returns:
        sum of min(m_a, m_b) / k, and its mean over all ways to shuffle the positions of one map, in float64: every
        position of one map then meets every position of the other with the same probability, 1 / positions.
    """
    above_both, above_first, above_second, tied_both = (count.double() for count in common)
    shared = (
        above_both
        + above_first * second.missing / second.tied
        + above_second * first.missing / first.tied
        # multiplied before divided: tied positions that are the same in both maps give whole numbers
        + torch.minimum(tied_both * first.missing / first.tied, tied_both * second.missing / second.tied)
    )
    met = (
        first.above.double() * second.above
        + first.above.double() * second.missing
        + first.missing.double() * second.above
        + torch.minimum(first.missing.double() * second.tied, first.tied.double() * second.missing)
    )
    return (shared / k).clamp(max=1), met / positions / k


def _cut(above: Bool[Tensor, "image position"], tied: Bool[Tensor, "image position"], k: Int[Tensor, " image"]) -> Cut:
    higher = above.sum(dim=1)
    return Cut(higher, tied.sum(dim=1), k - higher)


def _require_shape(other: Tensor, values: Tensor) -> None:
    if other.shape != values.shape:
        raise ShapeError(expected=tuple(values.shape), actual=tuple(other.shape))
