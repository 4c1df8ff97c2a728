"""Augmentation sweep: does the explanation survive harmless changes as well as the prediction does?

Source: Tetkova & Hansen 2023.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.augmentations.registry import FULL_WEIGHT, applicability, augment, unwarp, valid_mask, warp
from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import AUGMENTATION_MEAN, SweepCheck, interval_key, tried_intervals
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement, SharedSample
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.registry import explain_together
from auditcore.metrics.comparison import MaskedMaps
from auditcore.metrics.curves import anchored_area, stability_ratio
from auditcore.metrics.map_pairs import compare
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson

PROBABILITY_DROP = 0.10
"""Relative drop of the mean target probability at which an automatic interval ends (Tetkova & Hansen 2023)."""

CONSTANT_MAP = "the map is constant or not finite on the compared pixels, so its correlation is undefined"
EMPTY_SUPPORT = "a map is zero or not finite on the compared pixels, so it has no most relevant pixels"
VANISHED_PROBABILITY = "the area under the probability is 0, so the ratio is undefined"


# --- automatic intervals: measured in a first wave, reduced over the whole audit -------------------


def measure_shared(check: SweepCheck, group: ImageGroup) -> list[SharedSample]:
    """Target probabilities at both ends of every interval that `auto` may choose.

    Returns:
        One sample per augmentation that can be applied here: per image the probability of the original, then of low and
        high end by half-width. An end at which nothing changes has that of the original, without a pass.
    """
    samples = []
    for augmentation in check.augmentations:
        if augmentation.interval != "auto" or applicability(augmentation, group.classifier.colors) is not None:
            continue
        ends = torch.tensor(tried_intervals(augmentation), dtype=torch.float64).flatten()
        changed = [position for position, end in enumerate(ends.tolist()) if end != augmentation.identity]
        probability = group.probabilities[:, None].repeat(1, len(ends))
        probability[:, changed] = _predict_copies(augmentation, ends[changed].tolist(), group)
        rows = torch.cat([group.probabilities[:, None], probability], dim=1)
        values = tuple(tuple(row) for row in rows.double().cpu().tolist())
        samples.append(SharedSample(key=interval_key(check, augmentation), values=values))
    return samples


def reduce_shared(check: SweepCheck, samples: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, tuple[float, ...]]:
    """The smallest symmetric interval at one end of which the mean probability has dropped by 10 %.

    Where an augmentation ends at its identity or before, the interval does too.

    Args:
        check: The sweep.
        samples: Key -> rows of `measure_shared` of all images, in index order.

    Returns:
        Key -> (low, high, 1 if the drop was reached else 0); the whole bound when it never is.
    """
    reduced: dict[str, tuple[float, ...]] = {}
    for augmentation in check.augmentations:
        rows = samples.get(interval_key(check, augmentation))
        if augmentation.interval != "auto" or not rows:
            continue
        means = torch.tensor(rows, dtype=torch.float64).mean(dim=0)
        ends = means[1:].view(-1, 2).min(dim=1).values
        dropped = ends <= (1 - PROBABILITY_DROP) * means[0]
        reached = bool(dropped.any())
        low, high = tried_intervals(augmentation)[int(dropped.to(torch.int8).argmax()) if reached else -1]
        reduced[interval_key(check, augmentation)] = (low, high, float(reached))
    return reduced


# --- the sweep ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """The values of one augmentation, with the position of the unchanged image among them."""

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


@dataclass
class _Predictions:
    """What the model says of the copies: (N,L) target probability, (N,L) whether the target is no longer predicted."""

    probability: Tensor
    flipped: Tensor


@dataclass
class _Originals:
    """Reduced maps of the unchanged images by explainer. All augmentations and levels share them."""

    check: SweepCheck
    group: ImageGroup
    _maps: dict[Explainer, MaskedMaps] = field(default_factory=dict)

    def maps(self, explainer: Explainer) -> MaskedMaps:
        """Maps of which everything counts."""
        if explainer not in self._maps:
            reduced = reduce_channels(self.group.original(explainer).maps, self.check.reduce)
            self._maps[explainer] = MaskedMaps(reduced.flatten(1))
        return self._maps[explainer]

    @cached_property
    def _stacked(self) -> Float[Tensor, "image channels height width"]:
        return torch.cat([self.group.original(explainer).maps for explainer in self.group.explained], dim=1)

    def moved(
        self, augmentation: Augmentation, owner: Int[Tensor, " copy"], value: Float[Tensor, " copy"]
    ) -> dict[Explainer, Float[Tensor, "copy channel height width"]]:
        """T a(x) of every explainer; positions are worked out once for all their maps."""
        explainers = self.group.explained
        channels = [self.group.original(explainer).maps.shape[1] for explainer in explainers]
        warped = warp(augmentation, self._stacked[owner], value).split(channels, dim=1)
        return dict(zip(explainers, warped, strict=True))


def compute(check: SweepCheck, group: ImageGroup, shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of a sweep on one group."""
    found: list[Measurement] = []
    originals = _Originals(check, group)
    chances: dict[Explainer, list[Tensor]] = defaultdict(list)
    # read once the next augmentation has been asked of the device, which would have to wait for the host otherwise
    unread: Callable[[], list[Measurement]] = list
    for augmentation in check.augmentations:
        reason = applicability(augmentation, group.classifier.colors)
        if reason is not None:
            found += unread()
            unread = functools.partial(_without, check, augmentation, reason, group)
            continue
        interval = augmentation.interval
        if interval == "auto":
            low, high, _ = shared[interval_key(check, augmentation)]
            interval = (low, high)
        values = check.values(augmentation, interval)
        grid = _Grid(values, values.index(augmentation.identity))
        predictions, stabilities = _sweep(check, augmentation, grid, group, originals)
        for explainer, stability in stabilities.items():
            chances[explainer].append(stability.chance[:, grid.changed])
        found += unread()
        unread = functools.partial(_measurements, check, augmentation, grid, group, predictions, stabilities)
    found += unread()
    if len(check.augmentations) > 1:
        found += _augmentation_means(check, group, found)
    found += _repeatability(check, group, originals)
    found += [
        measurement(
            check,
            "top_k_chance",
            torch.cat(columns, dim=1).mean(dim=1).cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=EMPTY_SUPPORT,
        )
        for explainer, columns in chances.items()
    ]
    return found


def _repeatability(check: SweepCheck, group: ImageGroup, originals: _Originals) -> list[Measurement]:
    """Similarity of the maps of every stochastic explainer with those of another draw, no change of the image."""
    found: list[Measurement] = []
    for explainer in group.repeatable:
        again = _masked(check, group.repeat(explainer).maps, None)
        alike = compare(originals.maps(explainer), again, check.top_k)
        found += [
            measurement(
                check, metric, values.cpu(), indices=group.indices, explainer=explainer.label, undefined=undefined
            )
            for metric, values, undefined in (
                ("repeatability_pearson", alike.pearson, CONSTANT_MAP),
                ("repeatability_top_k", alike.top_k, EMPTY_SUPPORT),
            )
        ]
    return found


def _without(check: SweepCheck, augmentation: Augmentation, reason: str, group: ImageGroup) -> list[Measurement]:
    """Every metric of an augmentation that cannot be applied here, all null."""
    runs = group.explained
    return [
        measurement(
            check,
            metric,
            np.full(len(group), np.nan),
            indices=group.indices,
            explainer=None if explainer is None else explainer.label,
            variant=augmentation.label,
            undefined=reason,
            control=explainer in group.controls,
        )
        for metric, meaning in check.metrics.items()
        if not meaning.control
        for explainer in (runs if meaning.of_explainer else (None,))
    ]


def _measurements(
    check: SweepCheck,
    augmentation: Augmentation,
    grid: _Grid,
    group: ImageGroup,
    predictions: _Predictions,
    stabilities: Mapping[Explainer, _Stability],
) -> list[Measurement]:
    x = torch.tensor(grid.values, device=group.pixels.device)
    probability, flipped = predictions.probability, predictions.flipped[:, grid.changed]
    probability_area = anchored_area(probability, x, grid.identity, check.anchor)

    found = [
        measurement(
            check,
            "probability_score",
            probability_area.cpu(),
            indices=group.indices,
            variant=augmentation.label,
            curve=(grid.values, probability.cpu()),
        ),
        measurement(
            check,
            "prediction_flip_rate",
            flipped.double().mean(dim=1).cpu(),
            indices=group.indices,
            variant=augmentation.label,
            curve=([grid.values[c] for c in grid.changed], flipped.double().cpu()),
        ),
    ]
    for explainer, stability in stabilities.items():
        found += _stability_metrics(check, augmentation, grid, group, explainer, stability, probability_area)
    if augmentation.equivariant:
        found += _interpolation_ceilings(check, augmentation, grid, group, tuple(stabilities))
    return found


def _stability_metrics(
    check: SweepCheck,
    augmentation: Augmentation,
    grid: _Grid,
    group: ImageGroup,
    explainer: Explainer,
    stability: _Stability,
    probability_area: Float[Tensor, " image"],
) -> list[Measurement]:
    x = torch.tensor(grid.values, device=group.pixels.device)
    control = explainer in group.controls
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
                indices=group.indices,
                explainer=explainer.label,
                variant=augmentation.label,
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
                indices=group.indices,
                explainer=explainer.label,
                variant=augmentation.label,
                undefined=reasons,
                control=control,
            )
        )
    return found


def _augmentation_means(check: SweepCheck, group: ImageGroup, measured: Sequence[Measurement]) -> list[Measurement]:
    """Mean of each ratio over all augmentations, for rows that have every one of them (figure 4 of the paper)."""
    found = []
    for metric, meaning in check.metrics.items():
        if meaning.variants != "augmentation_mean":
            continue
        for explainer in group.explained:
            own = [one for one in measured if (one.metric, one.explainer) == (metric, explainer.label)]
            values = np.array([one.values for one in own], dtype=np.float64)
            reasons = {
                row: f"{one.variant} has no value: {one.reasons[index]}"
                for one in reversed(own)
                for row, index in enumerate(group.indices)
                if one.values[row] is None
            }
            found.append(
                measurement(
                    check,
                    metric,
                    values.mean(axis=0),
                    indices=group.indices,
                    explainer=explainer.label,
                    variant=AUGMENTATION_MEAN,
                    undefined=reasons,
                    control=explainer in group.controls,
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
    augmentation: Augmentation, values: Sequence[float], group: ImageGroup
) -> Float[Tensor, "image level"]:
    """Target probability of every copy, where no map is needed."""
    owners, settings = _copies(len(group), values)
    owner, value = numbers_on(owners, group.pixels.device, torch.long), torch.tensor(settings)
    probability = torch.empty(len(owners), device=group.pixels.device)

    def work(part: slice) -> None:
        copies = augment(
            augmentation,
            group.pixels[owner[part]],
            value[part],
            group.streams.take(owners[part]),
            colors=group.classifier.colors,
        )
        probability[part] = group.classifier.target_probability(copies, group.targets[owner[part]])

    group.each(len(owners), work)
    return probability.view(len(group), -1)


def _sweep(
    check: SweepCheck, augmentation: Augmentation, grid: _Grid, group: ImageGroup, originals: _Originals
) -> tuple[_Predictions, dict[Explainer, _Stability]]:
    """What the model says of every copy, and how similar a(Tx) is to a(x), or to T a(x) for equivariant augmentations.

    Each copy is made once, for the prediction, every explainer and the control.
    """
    device = group.pixels.device
    changed = [grid.values[position] for position in grid.changed]
    owners, settings = _copies(len(group), changed)
    level = torch.arange(len(changed), device=device).repeat(len(group))
    column = numbers_on(grid.changed, device, torch.long)
    # values stay on the host: what an augmentation makes of them needs no answer of the device
    owner, value = numbers_on(owners, device, torch.long), torch.tensor(settings)
    moves = augmentation.equivariant
    masks = valid_mask(augmentation, torch.tensor(changed), group.pixels.shape[-2:], device) if moves else None
    views = [f"{check.label}/{augmentation.label}={setting!r}" for setting in settings]
    predictions = _Predictions(
        group.probabilities[:, None].repeat(1, len(grid.values)),
        torch.zeros(len(group), len(grid.values), dtype=torch.bool, device=device),
    )
    stabilities = {explainer: _at_identity(check, grid, group, explainer, originals) for explainer in group.explained}

    def work(part: slice) -> None:
        own, where = owner[part], (owner[part], column[level[part]])
        copies = augment(
            augmentation,
            group.pixels[own],
            value[part],
            group.streams.take(owners[part]),
            colors=group.classifier.colors,
        )
        batch = group.batch(copies, owners[part], views[part], noise=check.noise)
        attributions = explain_together(batch, group.explained)
        predictions.probability[where], predicted = group.read(batch)
        predictions.flipped[where] = ~predicted
        mask = None if masks is None else masks[level[part]]
        moved = originals.moved(augmentation, own, value[part]) if moves else {}
        for explainer, stability in stabilities.items():
            before = _masked(check, moved[explainer], mask) if moves else originals.maps(explainer).take(own)
            after = _masked(check, attributions[explainer].maps, mask)
            alike = compare(before, after, check.top_k)
            stability.pearson[where] = alike.pearson
            stability.top_k[where] = alike.top_k
            stability.chance[where] = alike.chance

    group.each(len(owners), work)
    return predictions, stabilities


def _masked(
    check: SweepCheck,
    maps: Float[Tensor, "copy channel height width"],
    mask: Bool[Tensor, "copy 1 height width"] | None,
) -> MaskedMaps:
    """Reduced maps, flattened, with the pixels that count."""
    reduced = reduce_channels(maps, check.reduce)
    return MaskedMaps(reduced.flatten(1), None if mask is None else mask.expand_as(reduced).flatten(1))


def _at_identity(
    check: SweepCheck, grid: _Grid, group: ImageGroup, explainer: Explainer, originals: _Originals
) -> _Stability:
    """Curves that hold only their point at the unchanged image: 1, unless the map is constant or empty."""
    maps = originals.maps(explainer)
    points = compare(maps, maps, check.top_k)
    curves = [torch.full((len(group), len(grid.values)), torch.nan, device=maps.values.device) for _ in points]
    for curve, point in zip(curves, points, strict=True):
        curve[:, grid.identity] = point
    return _Stability(*curves)


def _interpolation_ceilings(
    check: SweepCheck, augmentation: Augmentation, grid: _Grid, group: ImageGroup, explainers: Sequence[Explainer]
) -> list[Measurement]:
    """Correlation of maps with themselves warped there and back: the cost of bilinear interpolation."""
    curves: dict[Explainer, list[Tensor]] = {explainer: [] for explainer in explainers}
    for position in grid.changed:
        maps = {e: reduce_channels(group.original(e).maps, check.reduce) for e in explainers}
        # one grid of positions serves all maps, and the pixels that come back from inside the image
        layers = [torch.ones_like(group.pixels[:, :1]), *maps.values()]
        stacked = torch.cat(layers, dim=1)
        forth = torch.full((len(group),), grid.values[position])
        returned = unwarp(augmentation, warp(augmentation, stacked, forth), forth).split(
            [layer.shape[1] for layer in layers], 1
        )
        inside = returned[0] >= FULL_WEIGHT
        for (explainer, before), after in zip(maps.items(), returned[1:], strict=True):
            curves[explainer].append(pearson(before, after, inside))
    found = []
    for explainer, columns in curves.items():
        curve = torch.stack(columns, dim=1)
        found.append(
            measurement(
                check,
                "interpolation_ceiling",
                curve.mean(dim=1).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                variant=augmentation.label,
                undefined=CONSTANT_MAP,
                curve=([grid.values[position] for position in grid.changed], curve.cpu()),
            )
        )
    return found
