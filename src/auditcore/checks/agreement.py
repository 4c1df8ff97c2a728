"""Agreement: the maps of a model against the maps that another model makes of the same images for the same classes.

Source: Arun et al. 2021, repeatability and reproducibility.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup, ReferenceRows
from auditcore.checks.map_agreement import NO_WINDOW, MapPair, Maps, Placement, compare_maps, grid, scalar_maps
from auditcore.checks.measuring import measurement, not_applicable
from auditcore.checks.self_agreement import SelfAgreement, self_agreement
from auditcore.contracts.checks import AgreementCheck
from auditcore.contracts.checks.agreement import SELF_METRICS
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.shards import Measurement
from auditcore.explainers.registry import applicability, explain_together
from auditcore.explainers.shared_pass import image_logits

CONSTANT = "the map of one of the two models is constant or not finite"


@dataclass(frozen=True)
class _Reference:
    """What the reference model says of the rows that it was asked about.

    Attributes:
        maps: Its maps by explainer.
        logits: Its logits.
    """

    maps: Mapping[Explainer, Float[Tensor, "row channel height width"]]
    logits: Float[Tensor, "row class"]


def compute(check: AgreementCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Every measure of every explainer that runs on both models, and which images both classify alike.

    Stochastic explainers draw the same numbers in both models with common noise; the random control never does, so
    that its rows show what maps without any relation get.
    """
    assert check.reference is not None  # noqa: S101 - a request names it, or its first model is taken
    reference = group.references[check.reference]
    unable = {one: reason for one in group.explained if (reason := _why_unable(reference, one)) is not None}
    able = tuple(explainer for explainer in group.explained if explainer not in unable)
    found = _ask(check, group, reference, able)
    alike, unlike = _alike(group, reference, found.logits)
    left_out = dict(reference.missing) | (unlike if check.only_alike else {})
    compared = [position for position, row in enumerate(reference.rows) if row not in left_out]
    originals = {explainer: scalar_maps(check, found.maps[explainer]) for explainer in able}
    with_itself = self_agreement(check, reference, originals, found.logits)
    results = [
        measurement(
            check,
            "prediction_agreement",
            alike.cpu(),
            indices=group.indices,
            undefined=dict(reference.missing),
        )
    ]
    for explainer in able:
        missing = left_out | {
            reference.rows[position]: f"model {reference.name!r}: {reason}"
            for position, reason in reference.group.without_map(explainer).items()
        }
        own = scalar_maps(check, group.original(explainer).maps)
        values, constant = _compare(check, reference, own, originals[explainer], compared)
        # a map that is not constant has every measure but SSIM, which needs room for its window
        undefined = dict.fromkeys(range(len(group)), NO_WINDOW) | dict.fromkeys(constant, CONSTANT) | missing
        results += _rows(check, group, explainer, values, undefined)
        if explainer in with_itself:
            results += _rows(check, group, explainer, *_of_group(group, reference, with_itself[explainer], missing))
    for explainer, reason in unable.items():
        results += not_applicable(check, explainer.label, reason, indices=group.indices)
    return results


def _why_unable(reference: ReferenceRows, explainer: Explainer) -> str | None:
    reason = applicability(reference.group.classifier, explainer)
    return None if reason is None else f"model {reference.name!r}: {reason}"


def _ask(
    check: AgreementCheck, group: ImageGroup, reference: ReferenceRows, explainers: Sequence[Explainer]
) -> _Reference:
    """Maps and logits of the reference model, for the classes that are explained for the model under audit.

    Raises:
        InputError: The reference model fails; `field` names it, and not the model under audit.
    """
    other = reference.group
    view = f"{check.label}/model={reference.name}"
    maps: dict[Explainer, list[Tensor]] = {explainer: [] for explainer in explainers}
    logits: list[Tensor] = []

    def work(part: slice) -> None:
        batch = other.batch(other.pixels[part], range(len(other))[part], view, noise=check.noise)
        for explainer, attribution in explain_together(batch, explainers).items():
            maps[explainer].append(attribution.maps)
        logits.append(image_logits(batch))
        other.classifier.guard.see(logits[-1])

    with blaming_model(reference.name, reference.position):
        other.each(len(other), work)
    empty = torch.empty(0, *other.classifier.shape, device=group.pixels.device)
    return _Reference(
        {explainer: torch.cat(parts) if parts else empty for explainer, parts in maps.items()},
        torch.cat(logits) if logits else torch.empty(0, other.classifier.classes, device=group.pixels.device),
    )


def _alike(
    group: ImageGroup, reference: ReferenceRows, logits: Float[Tensor, "row class"]
) -> tuple[Float[Tensor, " image"], dict[int, str]]:
    """1 for rows that both models classify alike and 0 for others, NaN where unknown; and why a row is not alike."""
    alike = torch.full((len(group),), torch.nan, dtype=torch.float64)
    unlike: dict[int, str] = {}
    rows = list(reference.rows)
    if not rows:
        return alike, unlike
    several_labels = "sigmoid" in {group.classifier.scores, reference.group.classifier.scores}
    own = group.answers(group.logits[rows], group.targets[rows], several_labels=several_labels)
    other = reference.group.answers(logits, group.targets[rows], several_labels=several_labels)
    for row, target, first, second in zip(
        rows, group.targets[rows].tolist(), own.tolist(), other.tolist(), strict=True
    ):
        alike[row] = float(first == second)
        if first != second:
            unlike[row] = (
                f"only {'this model' if first else f'model {reference.name!r}'} gives class {target} a probability of "
                "at least 0.5"
                if several_labels
                else f"this model predicts class {first}, and model {reference.name!r} predicts class {second}"
            )
    return alike, unlike


def _compare(
    check: AgreementCheck,
    reference: ReferenceRows,
    own: Maps,
    other: Float[Tensor, "row 1 row_height row_width"],
    compared: Sequence[int],
) -> tuple[dict[str, Float[Tensor, " image"]], list[int]]:
    """Every measure of the pairs of maps that are compared.

    Args:
        check: Measures and grid.
        reference: Where the maps belong.
        own: Maps of the model under audit, of all rows of its group.
        other: Maps of the reference model, of its rows.
        compared: Positions of the pairs among the rows of the reference model.

    Returns:
        Metric -> one value per row of the group, NaN where undefined; and the rows of which a map is constant.
    """
    rows = [reference.rows[position] for position in compared]
    placements = [
        Placement(*reference.parts[position], grid(check, *reference.parts[position])) for position in compared
    ]
    alike = compare_maps(check, own, other, [MapPair(*pair) for pair in zip(rows, compared, placements, strict=True)])
    values = {metric: _in_group(len(own), rows, column) for metric, column in alike.values.items()}
    return values, [row for row, flat in zip(rows, alike.constant.tolist(), strict=True) if flat]


def _of_group(
    group: ImageGroup, reference: ReferenceRows, found: SelfAgreement, missing: Mapping[int, str]
) -> tuple[dict[str, Float[Tensor, " image"]], dict[int, str]]:
    """Agreement of the reference model with itself in the rows of a group, and why a row has none.

    Rows on which the two models are not compared have no value, so that both numbers are about the same images.

    Args:
        group: The group under audit.
        reference: The reference model and its rows.
        found: Its agreement with itself.
        missing: Row of the group -> why the two models are not compared.
    """
    values = {
        SELF_METRICS[measure]: _in_group(len(group), reference.rows, column) for measure, column in found.values.items()
    }
    for column in values.values():
        column[list(missing)] = torch.nan
    return values, dict(zip(reference.rows, found.reasons, strict=True)) | dict(missing)


def _in_group(count: int, rows: Sequence[int], values: Float[Tensor, " row"]) -> Float[Tensor, " image"]:
    """Values of some rows of a group of `count`, on the host; NaN for the others."""
    column = torch.full((count,), torch.nan, dtype=torch.float64)
    column[list(rows)] = values.cpu()
    return column


def _rows(
    check: AgreementCheck,
    group: ImageGroup,
    explainer: Explainer,
    values: Mapping[str, Float[Tensor, " image"]],
    undefined: Mapping[int, str],
) -> list[Measurement]:
    """Metrics of one explainer."""
    return [
        measurement(
            check,
            metric,
            column,
            indices=group.indices,
            explainer=explainer.label,
            undefined=undefined,
            control=explainer in group.controls,
        )
        for metric, column in values.items()
    ]
