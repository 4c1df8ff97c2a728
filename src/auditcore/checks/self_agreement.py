"""Agreement of a reference model with itself: its maps before and after changes of the image that are harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.augmentations.registry import applicability, augment
from auditcore.checks.image_group import ReferenceRows
from auditcore.checks.map_agreement import NO_WINDOW, MapPair, Maps, Placement, compare_maps, grid, scalar_maps
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import AgreementCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.model_faults import blaming_model
from auditcore.explainers.registry import explain_together
from auditcore.explainers.shared_pass import image_logits


class SelfAgreement(NamedTuple):
    """How far the maps of one explainer agree with those of harmless copies of the images.

    Attributes:
        values: Measure -> one value per row of the reference model, on the host; NaN where undefined.
        reasons: Why a value of each row is NaN, if it is.
    """

    values: Mapping[str, Float[Tensor, " row"]]
    reasons: Sequence[str]


class _Copies(NamedTuple):
    """What is known of one harmless copy of every row.

    Attributes:
        kept: Rows that the model classifies like the image.
        values: Explainer -> measure -> agreement of the two maps; NaN where undefined.
        constant: Explainer -> rows of which one of the two maps is constant or not finite.
    """

    kept: Bool[Tensor, " row"]
    values: Mapping[Explainer, Mapping[str, Float[Tensor, " row"]]]
    constant: Mapping[Explainer, Bool[Tensor, " row"]]


def self_agreement(
    check: AgreementCheck,
    reference: ReferenceRows,
    originals: Mapping[Explainer, Maps],
    logits: Float[Tensor, "row class"],
) -> dict[Explainer, SelfAgreement]:
    """Mean agreement of the map of each image with the maps of its harmless copies, on the grid of the two models.

    A copy that the model does not classify like the image does not count, because the change was not harmless there.
    With common noise, stochastic explainers draw for a copy what they draw for the image.

    Args:
        check: The harmless changes, and how maps are compared.
        reference: The reference model and its rows.
        originals: Its maps of the unchanged images by explainer, from `scalar_maps`.
        logits: Its logits of the unchanged images.

    Returns:
        Values of every explainer; none without any harmless change, or if all maps are random.

    Raises:
        InputError: The reference model fails; `field` names it.
    """
    if not check.harmless or all(explainer.is_control for explainer in originals):
        return {}
    for augmentation in check.harmless:
        reason = applicability(augmentation, reference.group.classifier.colors)
        if reason is not None:
            return _without(check, reference, originals, augmentation, reason)
    with blaming_model(reference.name, reference.position):
        copies = [_explain_copies(check, reference, originals, logits, *change) for change in check.harmless_copies]
    kept = torch.stack([one.kept for one in copies], dim=1)
    return {explainer: _mean(check, reference, kept, copies, explainer) for explainer in originals}


def _explain_copies(
    check: AgreementCheck,
    reference: ReferenceRows,
    originals: Mapping[Explainer, Maps],
    logits: Float[Tensor, "row class"],
    augmentation: Augmentation,
    value: float,
) -> _Copies:
    """Change every image in the same way, and compare its maps with those of the unchanged image."""
    group = reference.group
    rows, device = len(group), group.pixels.device
    found = _Copies(
        torch.zeros(rows, dtype=torch.bool, device=device),
        {
            explainer: {measure: maps.new_full((rows,), torch.nan) for measure in check.measures}
            for explainer, maps in originals.items()
        },
        {explainer: torch.zeros(rows, dtype=torch.bool, device=device) for explainer in originals},
    )
    view = f"{check.label}/model={reference.name}/{augmentation.label}={value!r}"
    placements = [Placement(other, other, grid(check, own, other)) for own, other in reference.parts]

    def work(part: slice) -> None:
        owners = range(rows)[part]
        copies = augment(
            augmentation,
            group.pixels[part],
            torch.full((len(owners),), value),
            group.streams.take(owners),
            colors=group.classifier.colors,
        )
        batch = group.batch(copies, owners, view, noise=check.noise)
        maps = explain_together(batch, tuple(originals))
        answered = image_logits(batch)
        group.classifier.guard.see(answered)
        found.kept[part] = group.answers(answered, batch.targets) == group.answers(logits[part], batch.targets)
        pairs = [MapPair(owner, position, placements[owner]) for position, owner in enumerate(owners)]
        for explainer, original in originals.items():
            alike = compare_maps(check, original, scalar_maps(check, maps[explainer].maps), pairs)
            found.constant[explainer][part] = alike.constant
            for measure, column in found.values[explainer].items():
                column[part] = alike.values[measure]

    group.each(rows, work)
    return found


def _mean(
    check: AgreementCheck,
    reference: ReferenceRows,
    kept: Bool[Tensor, "row copy"],
    copies: Sequence[_Copies],
    explainer: Explainer,
) -> SelfAgreement:
    """The mean over the copies that count and have a value."""
    constant = torch.stack([one.constant[explainer] for one in copies], dim=1)
    values: dict[str, Tensor] = {}
    for measure in check.measures:
        each = torch.stack([one.values[explainer][measure] for one in copies], dim=1)
        values[measure] = each.masked_fill(~kept, torch.nan).nanmean(dim=1).cpu()
    # maps that are not constant have every measure but SSIM, which needs room for its window
    reasons = [
        f"model {reference.name!r} classifies no harmless copy of the image like the image"
        if not counts
        else f"a map of model {reference.name!r} is constant or not finite, of the image or of its harmless copies"
        if empty
        else NO_WINDOW
        for counts, empty in zip(kept.any(dim=1).tolist(), (constant | ~kept).all(dim=1).tolist(), strict=True)
    ]
    return SelfAgreement(values, reasons)


def _without(
    check: AgreementCheck,
    reference: ReferenceRows,
    originals: Mapping[Explainer, Maps],
    augmentation: Augmentation,
    reason: str,
) -> dict[Explainer, SelfAgreement]:
    """No values, because a change cannot be applied: a mean over the others would be another number."""
    rows = len(reference.group)
    why = f"model {reference.name!r}: {reason}; take {augmentation.label} out of `harmless`"
    nothing = torch.full((rows,), torch.nan, dtype=torch.float64)
    return {explainer: SelfAgreement(dict.fromkeys(check.measures, nothing), [why] * rows) for explainer in originals}
