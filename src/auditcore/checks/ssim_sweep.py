"""Structural similarity sweep: do maps of changed images that the model sees as the same look the same?

Source: Erdem 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.augmentations.registry import applicability, augment, valid_mask, warp
from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement, not_applicable
from auditcore.contracts.checks import ALL_CHANGES, ALL_VALID, Change, ChangedValue, SsimSweepCheck, change_variants
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement, SharedSample
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.registry import explain_together
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.structural_similarity import structural_similarity

NO_RANGE = "the maps of all originals are zero or not finite, so there is no data range to compare them in"
NOT_COMPARABLE = (
    "on every accepted copy a map is constant or not finite, or no window of SSIM lies wholly inside the image"
)
NOT_REPEATABLE = "one of both maps is constant or not finite, or no window of SSIM fits into it"
MEASURED_FIRST = (
    "its maps need quantities of the first wave, in which the data range of SSIM is measured; "
    "audit it with another check"
)

# --- the data range: measured in a first wave, reduced over the whole audit ------------------------


def range_key(check: SsimSweepCheck, explainer: Explainer) -> str:
    """Under which name the data range of an explainer's maps is shared between shards."""
    return f"{check.label}.{explainer.label}.data_range"


def measure_shared(check: SsimSweepCheck, group: ImageGroup) -> list[SharedSample]:
    """Largest absolute attribution of every original map, by explainer; 0 where a map is not finite."""
    samples = []
    group.explain_originals(_explainers(group))
    for explainer in _explainers(group):
        maps = reduce_channels(group.original(explainer).maps, check.reduce).flatten(1)
        largest = maps.abs().amax(dim=1)
        largest = torch.where(largest.isfinite(), largest, 0.0)
        values = tuple((value,) for value in largest.double().cpu().tolist())
        samples.append(SharedSample(key=range_key(check, explainer), values=values))
    return samples


def reduce_shared(
    check: SsimSweepCheck, samples: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, tuple[float, ...]]:
    """The largest absolute attribution of each explainer over all originals.

    Args:
        check: The sweep.
        samples: Key -> rows of `measure_shared` of all images, in index order.

    Returns:
        Key -> (data range,).
    """
    return {
        key: (max(value for row in rows for value in row),)
        for key, rows in samples.items()
        if rows and key.startswith(f"{check.label}.") and key.endswith(".data_range")
    }


def _explainers(group: ImageGroup) -> list[Explainer]:
    """Those whose originals exist before anything is shared, and the control."""
    return [e for e in group.explained if not e.needs_measure_wave]


# --- the sweep ------------------------------------------------------------------------------------


def compute(check: SsimSweepCheck, group: ImageGroup, shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of the sweep on one group."""
    unavailable = {
        change.augmentation.label: applicability(change.augmentation, group.classifier.colors)
        for change in check.changes
    }
    changes = [change for change in check.changes if unavailable[change.augmentation.label] is None]
    accepted = {change.augmentation.label: _accepted(check, change, group) for change in changes}
    found = _accepted_fractions(check, group, accepted, unavailable)
    valid = _joined(change_variants(check)[ALL_CHANGES], accepted, group).bool().all(dim=1)
    ranges = {explainer: shared[range_key(check, explainer)][0] for explainer in _explainers(group)}
    similarities = {
        change.augmentation.label: _similarities(check, change, accepted[change.augmentation.label], group, ranges)
        for change in changes
    }
    for explainer, data_range in ranges.items():
        own = {label: by_explainer[explainer] for label, by_explainer in similarities.items()}
        found += _similarity_metrics(check, group, explainer, data_range, own, accepted, valid, unavailable)
    found += [_repeatability(check, group, e, ranges[e]) for e in group.repeatable if e in ranges]
    for explainer in group.able:
        if explainer.needs_measure_wave:
            found += not_applicable(check, explainer.label, MEASURED_FIRST, indices=group.indices)
    return found


def _accepted(check: SsimSweepCheck, change: Change, group: ImageGroup) -> Bool[Tensor, "image value"]:
    """Which copies the model sees as the same; no map is computed of the others."""
    owners, value = _copies(change, group)
    owner = numbers_on(owners, group.pixels.device, torch.long)
    probability = torch.empty(len(owners), device=group.pixels.device)

    def work(part: slice) -> None:
        copies = _changed(change, group, owners[part], value[part])
        probability[part] = group.classifier.target_probability(copies, group.targets[owner[part]])

    group.each(len(owners), work)
    moved = (probability.view(len(group), -1) - group.probabilities[:, None]).abs()
    return moved < check.tolerance


def _copies(change: Change, group: ImageGroup) -> tuple[list[int], Tensor]:
    """Owner and value of every copy on the host, images first, so that a micro-batch mixes few images."""
    owners = [image for image in range(len(group)) for _ in change.values]
    return owners, torch.tensor(change.values).repeat(len(group))


def _changed(
    change: Change, group: ImageGroup, owners: Sequence[int], value: Tensor
) -> Float[Tensor, "copy channel height width"]:
    pixels = group.pixels[numbers_on(owners, group.pixels.device, torch.long)]
    return augment(change.augmentation, pixels, value, group.streams.take(owners), colors=group.classifier.colors)


def _similarities(
    check: SsimSweepCheck,
    change: Change,
    accepted: Bool[Tensor, "image value"],
    group: ImageGroup,
    ranges: Mapping[Explainer, float],
) -> dict[Explainer, Float[Tensor, "image value"]]:
    """Similarity of a(Tx) with T a(x) on every accepted copy; NaN elsewhere and where it is undefined."""
    device = group.pixels.device
    every_owner, every_value = _copies(change, group)
    chosen = accepted.flatten().cpu().nonzero()[:, 0]
    owners, value = [every_owner[position] for position in chosen.tolist()], every_value[chosen]
    levels = [position % len(change.values) for position in chosen.tolist()]
    owner, level = numbers_on(owners, device, torch.long), numbers_on(levels, device, torch.long)
    views = [f"{check.label}/{change.augmentation.label}={change.values[position]!r}" for position in levels]
    masks = _compared(check, change, group)
    found = {
        explainer: torch.full(accepted.shape, torch.nan, dtype=torch.float64, device=device) for explainer in ranges
    }

    def work(part: slice) -> None:
        own, mask = owner[part], masks[level[part]]
        copies = _changed(change, group, owners[part], value[part])
        batch = group.batch(copies, owners[part], views[part], noise=check.noise)
        attributions = explain_together(batch, tuple(ranges))
        for explainer, data_range in ranges.items():
            maps = attributions[explainer].maps
            expected = warp(change.augmentation, group.original(explainer).maps[own], value[part])
            found[explainer][own, level[part]] = _similarity(check, expected, maps, data_range, mask)

    group.each(len(owners), work)
    return found


def _similarity(
    check: SsimSweepCheck,
    expected: Float[Tensor, "copy channel height width"],
    maps: Float[Tensor, "copy channel height width"],
    data_range: float,
    mask: Bool[Tensor, "copy 1 height width"],
) -> Float[Tensor, " copy"]:
    """Structural similarity of each pair of maps; NaN where one of them is constant or not finite."""
    before, after = reduce_channels(expected, check.reduce), reduce_channels(maps, check.reduce)
    full = torch.full((len(maps),), data_range, dtype=torch.float64, device=maps.device)
    similarity = structural_similarity(before, after, full, window=check.window, mask=mask)
    counted = mask.expand_as(before).flatten(1)
    silent = is_constant(before.flatten(1), counted) | is_constant(after.flatten(1), counted)
    return similarity.masked_fill(silent, torch.nan)


def _repeatability(check: SsimSweepCheck, group: ImageGroup, explainer: Explainer, data_range: float) -> Measurement:
    """Similarity of the maps of a stochastic explainer with those of another draw, no change of the image."""
    everywhere = torch.ones_like(group.pixels[:, :1], dtype=torch.bool)
    original, again = group.original(explainer).maps, group.repeat(explainer).maps
    return measurement(
        check,
        "repeatability_ssim",
        _similarity(check, original, again, data_range, everywhere).cpu(),
        indices=group.indices,
        explainer=explainer.label,
        undefined=NOT_REPEATABLE if data_range > 0 else NO_RANGE,
    )


def _compared(check: SsimSweepCheck, change: Change, group: ImageGroup) -> Bool[Tensor, "value 1 height width"]:
    """Pixels on which maps are compared: those of the original, or with `border: include` all."""
    size, device = group.pixels.shape[-2:], group.pixels.device
    if check.border == "include":
        return torch.ones(len(change.values), 1, *size, dtype=torch.bool, device=device)
    return valid_mask(change.augmentation, torch.tensor(change.values), size, device)


# --- measurements ---------------------------------------------------------------------------------


def _accepted_fractions(
    check: SsimSweepCheck,
    group: ImageGroup,
    accepted: Mapping[str, Bool[Tensor, "image value"]],
    unavailable: Mapping[str, str | None],
) -> list[Measurement]:
    found = []
    for variant, members in change_variants(check).items():
        columns = _joined(members, accepted, group)
        # of no copies at all nothing is valid: the mean says so
        fraction = columns.mean(dim=1)
        if variant == ALL_VALID:
            fraction = columns.all(dim=1).double().where(~fraction.isnan(), torch.nan)
        found.append(
            measurement(
                check,
                "accepted_fraction",
                fraction.cpu(),
                indices=group.indices,
                variant=variant,
                undefined=_why_none(members, unavailable),
            )
        )
    return found


def _similarity_metrics(
    check: SsimSweepCheck,
    group: ImageGroup,
    explainer: Explainer,
    data_range: float,
    similarities: Mapping[str, Float[Tensor, "image value"]],
    accepted: Mapping[str, Bool[Tensor, "image value"]],
    valid: Bool[Tensor, " image"],
    unavailable: Mapping[str, str | None],
) -> list[Measurement]:
    found = []
    for variant, members in change_variants(check).items():
        mean = _joined(members, similarities, group).nanmean(dim=1)
        seen = _joined(members, accepted, group).bool().any(dim=1)
        compared = NOT_COMPARABLE if data_range > 0 else NO_RANGE
        why = f"no changed copy is accepted: the target probability of each moved by {check.tolerance:g} or more"
        if variant == ALL_VALID:
            mean, seen = mean.where(valid, torch.nan), seen & valid
            why = f"a changed copy is not accepted: its target probability moved by {check.tolerance:g} or more"
        moved = _why_none(members, unavailable) or why
        found.append(
            measurement(
                check,
                "ssim",
                mean.cpu(),
                indices=group.indices,
                explainer=explainer.label,
                variant=variant,
                undefined={position: compared if any_ else moved for position, any_ in enumerate(seen.tolist())},
                control=explainer in group.controls,
            )
        )
    found.append(
        measurement(
            check,
            "ssim_data_range",
            torch.full((len(group),), data_range, dtype=torch.float64),
            indices=group.indices,
            explainer=explainer.label,
        )
    )
    return found


def _joined(
    members: Sequence[ChangedValue], columns: Mapping[str, Tensor], group: ImageGroup
) -> Float[Tensor, "image value"]:
    """The columns of the changes that can be applied; none, if none can."""
    chosen = [columns[one.augmentation][:, one.position].double() for one in members if one.augmentation in columns]
    return torch.stack(chosen, dim=1) if chosen else torch.empty(len(group), 0, device=group.pixels.device)


def _why_none(members: Sequence[ChangedValue], unavailable: Mapping[str, str | None]) -> str:
    """Why none of the changes has copies; empty if some have."""
    reasons = [unavailable[one.augmentation] for one in members]
    return next((reason for reason in reasons if reason), "") if all(reasons) else ""
