"""Augmentation sweep: does the explanation survive harmless changes as well as the prediction does?

Source: Tetkova & Hansen 2023.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.augmentations.table import FULL_WEIGHT, applicability, augment, levels, unwarp, valid_mask, warp
from auditcore.checks.chunk import Chunk
from auditcore.checks.measuring import measurement
from auditcore.contracts.augmentations import Augmentation, Interval
from auditcore.contracts.checks import SweepCheck, interval_key
from auditcore.contracts.estimate import AUTO_INTERVAL_STEPS
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.shards import Measurement, SharedSample
from auditcore.metrics.curves import anchored_area, stability_ratio
from auditcore.metrics.ranking import top_k_overlap
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson
from auditcore.streams import Streams

PROBABILITY_DROP = 0.10
"""Relative drop of the mean target probability at which an automatic interval ends (Tetkova & Hansen 2023)."""

CONSTANT_MAP = "the map is constant or not finite on the compared pixels, so its correlation is undefined"
EMPTY_SUPPORT = "a map is zero or not finite on the compared pixels, so it has no most relevant pixels"
VANISHED_PROBABILITY = "the area under the probability is 0, so the ratio is undefined"


# --- automatic intervals: measured in a first wave, reduced over the whole audit -------------------


def _tried(family: Augmentation) -> list[Interval]:
    """Every interval that `auto` may choose, narrowest first."""
    return [family.around(family.bound * step / AUTO_INTERVAL_STEPS) for step in range(1, AUTO_INTERVAL_STEPS + 1)]


def measure_shared(check: SweepCheck, chunk: Chunk) -> list[SharedSample]:
    """Target probabilities at both ends of every interval that `auto` may choose.

    Returns:
        One sample a family that can be applied here: per image the probability of the original, then of low and high
        end by half-width. An end at which nothing changes has that of the original, without a pass.
    """
    samples = []
    for family in check.families:
        if family.interval != "auto" or applicability(family) is not None:
            continue
        ends = torch.tensor(_tried(family), dtype=torch.float64).flatten()
        changed = [position for position, end in enumerate(ends.tolist()) if end != family.identity]
        probability = chunk.probabilities[:, None].repeat(1, len(ends))
        probability[:, changed], _ = _predict_copies(family, ends[changed].tolist(), chunk)
        rows = torch.cat([chunk.probabilities[:, None], probability], dim=1)
        values = tuple(tuple(row) for row in rows.double().cpu().tolist())
        samples.append(SharedSample(key=interval_key(check, family), values=values))
    return samples


def reduce_shared(check: SweepCheck, samples: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, tuple[float, ...]]:
    """The smallest symmetric interval at one end of which the mean probability has dropped by 10 %.

    Where a family ends at its identity or before, the interval does too.

    Args:
        check: The sweep.
        samples: Key -> rows of `measure_shared` of all images, in index order.

    Returns:
        Key -> (low, high, 1 if the drop was reached else 0); the whole bound when it never is.
    """
    reduced: dict[str, tuple[float, ...]] = {}
    for family in check.families:
        rows = samples.get(interval_key(check, family))
        if family.interval != "auto" or not rows:
            continue
        means = torch.tensor(rows, dtype=torch.float64).mean(dim=0)
        ends = means[1:].view(-1, 2).min(dim=1).values
        dropped = ends <= (1 - PROBABILITY_DROP) * means[0]
        reached = bool(dropped.any())
        low, high = _tried(family)[int(dropped.to(torch.int8).argmax()) if reached else -1]
        reduced[interval_key(check, family)] = (low, high, float(reached))
    return reduced


# --- the sweep ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """The values of one family, with the position of the unchanged image among them."""

    values: tuple[float, ...]
    identity: int

    @property
    def changed(self) -> list[int]:
        return [position for position in range(len(self.values)) if position != self.identity]


@dataclass
class _Stability:
    """Similarity of one explainer's maps before and after the change: (N,L), NaN where undefined."""

    pearson: Tensor
    top_k: Tensor
    chance: Tensor


def compute(check: SweepCheck, chunk: Chunk, shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of a sweep on one chunk."""
    found: list[Measurement] = []
    chances: dict[Explainer, list[Tensor]] = defaultdict(list)
    for family in check.families:
        reason = applicability(family)
        if reason is not None:
            found += _without(check, family, reason, chunk)
            continue
        interval = family.interval
        if interval == "auto":
            low, high, _ = shared[interval_key(check, family)]
            interval = (low, high)
        values = levels(family, interval, check.levels)
        grid = _Grid(values, values.index(family.identity))
        stabilities = _compare_maps(check, family, grid, chunk)
        found += _sweep_family(check, family, grid, chunk, stabilities)
        for explainer, stability in stabilities.items():
            chances[explainer].append(stability.chance[:, grid.changed])
    found += [
        measurement(
            check,
            "top_k_chance",
            torch.cat(columns, dim=1).mean(dim=1).cpu(),
            indices=chunk.indices,
            explainer=explainer.label,
            undefined=EMPTY_SUPPORT,
        )
        for explainer, columns in chances.items()
    ]
    return found


def _without(check: SweepCheck, family: Augmentation, reason: str, chunk: Chunk) -> list[Measurement]:
    """Every metric of a family that cannot be applied here, all null."""
    runs = chunk.explained
    return [
        measurement(
            check,
            metric,
            np.full(len(chunk), np.nan),
            indices=chunk.indices,
            explainer=None if explainer is None else explainer.label,
            variant=family.label,
            undefined=reason,
            control=explainer in chunk.controls,
        )
        for metric, meaning in METRICS[check.kind].items()
        if not meaning.control
        for explainer in (runs if meaning.of_explainer else (None,))
    ]


def _sweep_family(
    check: SweepCheck,
    family: Augmentation,
    grid: _Grid,
    chunk: Chunk,
    stabilities: Mapping[Explainer, _Stability],
) -> list[Measurement]:
    x = torch.tensor(grid.values, device=chunk.pixels.device)
    probability = chunk.probabilities[:, None].repeat(1, len(grid.values))
    probability[:, grid.changed], flipped = _predict_copies(family, [grid.values[c] for c in grid.changed], chunk)
    probability_area = anchored_area(probability, x, grid.identity, check.anchor)

    found = [
        measurement(
            check,
            "probability_score",
            probability_area.cpu(),
            indices=chunk.indices,
            variant=family.label,
            curve=(grid.values, probability.cpu()),
        ),
        measurement(
            check,
            "prediction_flip_rate",
            flipped.double().mean(dim=1).cpu(),
            indices=chunk.indices,
            variant=family.label,
            curve=([grid.values[c] for c in grid.changed], flipped.double().cpu()),
        ),
    ]
    for explainer, stability in stabilities.items():
        found += _stability_metrics(check, family, grid, chunk, explainer, stability, probability_area)
        if family.equivariant:
            found.append(_interpolation_ceiling(check, family, grid, chunk, explainer))
    return found


def _stability_metrics(
    check: SweepCheck,
    family: Augmentation,
    grid: _Grid,
    chunk: Chunk,
    explainer: Explainer,
    stability: _Stability,
    probability_area: Float[Tensor, " image"],
) -> list[Measurement]:
    x = torch.tensor(grid.values, device=chunk.pixels.device)
    control = explainer in chunk.controls
    found = []
    for name, ratio, curve, why in (
        ("pearson_score", "s_pearson", stability.pearson, CONSTANT_MAP),
        ("top_k_score", "s_top_k", stability.top_k, EMPTY_SUPPORT),
    ):
        area = anchored_area(curve, x, grid.identity, check.anchor)
        found.append(
            measurement(
                check,
                name,
                area.cpu(),
                indices=chunk.indices,
                explainer=explainer.label,
                variant=family.label,
                undefined=why,
                curve=(grid.values, curve.cpu()),
                control=control,
            )
        )
        reasons = {i: why if bool(missing) else VANISHED_PROBABILITY for i, missing in enumerate(area.isnan().tolist())}
        found.append(
            measurement(
                check,
                ratio,
                stability_ratio(area, probability_area).cpu(),
                indices=chunk.indices,
                explainer=explainer.label,
                variant=family.label,
                undefined=reasons,
                control=control,
            )
        )
    return found


def _copies(count: int, changed: Sequence[float]) -> tuple[list[int], list[float]]:
    """Owner and value of every changed copy, images first, so that a micro-batch mixes few images."""
    return (
        [image for image in range(count) for _ in changed],
        [value for _ in range(count) for value in changed],
    )


def _predict_copies(
    family: Augmentation, values: Sequence[float], chunk: Chunk
) -> tuple[Float[Tensor, "image level"], Bool[Tensor, "image level"]]:
    """Target probability of every copy, and whether the target is no longer predicted."""
    owners, settings = _copies(len(chunk), values)
    owner = torch.tensor(owners, device=chunk.pixels.device)
    value = torch.tensor(settings, device=chunk.pixels.device)
    probability = torch.empty(len(owners), device=chunk.pixels.device)
    flipped = torch.empty(len(owners), dtype=torch.bool, device=chunk.pixels.device)
    for part in chunk.micro_batches(len(owners)):
        copies = augment(family, chunk.pixels[owner[part]], value[part], chunk.streams.take(owners[part]))
        logits = chunk.classifier.logits(copies)
        targets = chunk.targets[owner[part]]
        probability[part] = chunk.classifier.probabilities(logits).gather(1, targets[:, None])[:, 0]
        flipped[part] = ~chunk.classifier.predicts(logits, targets)
    return probability.view(len(chunk), -1), flipped.view(len(chunk), -1)


def _compare_maps(check: SweepCheck, family: Augmentation, grid: _Grid, chunk: Chunk) -> dict[Explainer, _Stability]:
    """Similarity of a(Tx) with a(x), or with T a(x) for equivariant families, for every explainer and the control."""
    device = chunk.pixels.device
    changed = [grid.values[position] for position in grid.changed]
    owners, settings = _copies(len(chunk), changed)
    level = torch.arange(len(changed), device=device).repeat(len(chunk))
    owner, value = torch.tensor(owners, device=device), torch.tensor(settings, device=device)
    masks = valid_mask(family, torch.tensor(changed, device=device), chunk.pixels.shape[-2:], device)
    views = [f"{check.label}/{family.label}={setting!r}" for setting in settings]

    stabilities = {explainer: _at_identity(check, grid, chunk, explainer) for explainer in chunk.explained}
    for start in range(0, len(owners), chunk.micro_batch):
        part = slice(start, start + chunk.micro_batch)
        copies = augment(family, chunk.pixels[owner[part]], value[part], chunk.streams.take(owners[part]))
        for explainer, stability in stabilities.items():
            maps = chunk.explain(explainer, copies, owners[part], views[part]).maps
            expected = warp(family, chunk.original(explainer).maps[owner[part]], value[part])
            similarity, overlap, chance = _similarity(
                check, chunk, expected, maps, masks[level[part]], owners[part], views[part]
            )
            where = (owner[part], torch.tensor(grid.changed, device=device)[level[part]])
            stability.pearson[where] = similarity
            stability.top_k[where] = overlap
            stability.chance[where] = chance
    return stabilities


def _similarity(
    check: SweepCheck,
    chunk: Chunk,
    expected: Float[Tensor, "copy channel height width"],
    maps: Float[Tensor, "copy channel height width"],
    mask: Bool[Tensor, "copy 1 height width"],
    owners: Sequence[int],
    views: Sequence[str],
) -> tuple[Float[Tensor, " copy"], Float[Tensor, " copy"], Float[Tensor, " copy"]]:
    """Correlation, top-k overlap and its chance level of pairs of maps on the pixels both have."""
    before, after = reduce_channels(expected, check.reduce), reduce_channels(maps, check.reduce)
    streams = chunk.streams.take(owners)
    overlap = top_k_overlap(
        before.flatten(1),
        after.flatten(1),
        mask.expand_as(before).flatten(1),
        check.top_k,
        _ties(streams, before),
        _ties(streams.viewing(views), after),
    )
    return pearson(before, after, mask), overlap.values, overlap.chance


def _ties(streams: Streams, maps: Float[Tensor, "copy channel height width"]) -> Float[Tensor, "copy position"]:
    """Random numbers that order equally relevant positions."""
    return streams.uniform((maps[0].numel(),), "sweep/ties").to(maps.device)


def _at_identity(check: SweepCheck, grid: _Grid, chunk: Chunk, explainer: Explainer) -> _Stability:
    """Curves that hold only their point at the unchanged image: 1, unless the map is constant or empty."""
    maps = chunk.original(explainer).maps
    reduced = reduce_channels(maps, check.reduce)
    everywhere = torch.ones_like(maps[:, :1], dtype=torch.bool)
    flat, ties = reduced.flatten(1), _ties(chunk.streams, reduced)
    overlap = top_k_overlap(flat, flat, everywhere.expand_as(reduced).flatten(1), check.top_k, ties, ties)
    curves = [torch.full((len(chunk), len(grid.values)), torch.nan, device=maps.device) for _ in range(3)]
    for curve, point in zip(
        curves, (pearson(reduced, reduced, everywhere), overlap.values, overlap.chance), strict=True
    ):
        curve[:, grid.identity] = point
    return _Stability(*curves)


def _interpolation_ceiling(
    check: SweepCheck, family: Augmentation, grid: _Grid, chunk: Chunk, explainer: Explainer
) -> Measurement:
    """Correlation of a map with itself warped forth and back: what bilinear interpolation alone costs."""
    maps = reduce_channels(chunk.original(explainer).maps, check.reduce)
    columns = []
    for position in grid.changed:
        forth = torch.full((len(chunk),), grid.values[position], device=maps.device)
        returned = unwarp(family, warp(family, maps, forth), forth)
        ones = torch.ones_like(maps[:, :1])
        inside = unwarp(family, warp(family, ones, forth), forth) >= FULL_WEIGHT
        columns.append(pearson(maps, returned, inside))
    curve = torch.stack(columns, dim=1)
    return measurement(
        check,
        "interpolation_ceiling",
        curve.mean(dim=1).cpu(),
        indices=chunk.indices,
        explainer=explainer.label,
        variant=family.label,
        undefined=CONSTANT_MAP,
        curve=([grid.values[position] for position in grid.changed], curve.cpu()),
    )
