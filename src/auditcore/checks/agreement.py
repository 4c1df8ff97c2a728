"""Agreement: the maps of a model against the maps that another model makes of the same images for the same classes.

Source: Arun et al. 2021, repeatability and reproducibility.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.checks.image_group import ImageGroup, ReferenceRows
from auditcore.checks.measuring import measurement, not_applicable
from auditcore.contracts.checks import AgreementCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.shards import Measurement
from auditcore.explainers.registry import applicability, explain_together
from auditcore.explainers.shared_pass import image_logits
from auditcore.images.placement import InputPart
from auditcore.metrics.comparison import MaskedMaps
from auditcore.metrics.map_pairs import compare
from auditcore.metrics.rank_correlation import spearman
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.resampling import resample
from auditcore.metrics.structural_similarity import structural_similarity

CONSTANT = "the map of one of the two models is constant or not finite"
NO_WINDOW = "no window of SSIM fits into the part of the image that both models see; set a smaller `window`"

Maps = Float[Tensor, "image 1 height width"]


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
        own = _scalar(check, group.original(explainer).maps)
        other = _scalar(check, found.maps[explainer])
        values, constant = _compare(check, reference, own, other, compared)
        # a map that is not constant has every measure but SSIM, which needs room for its window
        undefined = dict.fromkeys(range(len(group)), NO_WINDOW) | dict.fromkeys(constant, CONSTANT) | missing
        results += [
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
    own = _answers(group, group.logits[rows], group.targets[rows], several_labels=several_labels)
    other = _answers(reference.group, logits, group.targets[rows], several_labels=several_labels)
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


def _answers(
    group: ImageGroup, logits: Float[Tensor, "row class"], targets: Int[Tensor, " row"], *, several_labels: bool
) -> Int[Tensor, " row"]:
    """What must be equal in two models that classify an image alike.

    The most probable class; where a model has several labels, whether the explained class is predicted.
    """
    return group.classifier.predicts(logits, targets).long() if several_labels else logits.argmax(dim=1)


def _scalar(check: AgreementCheck, maps: Float[Tensor, "image channel height width"]) -> Maps:
    """Maps with one value per pixel, in float64; absolute if the check asks for that."""
    reduced = reduce_channels(maps.double(), check.reduce)
    return reduced.abs() if check.absolute else reduced


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
    undefined: list[int] = []
    values = {
        metric: torch.full((len(own),), torch.nan, dtype=torch.float64)
        for metric, meaning in check.listed_metrics.items()
        if meaning.of_explainer
    }
    # images of the same size are compared together
    by_part = sorted(compared, key=lambda position: reference.parts[position])
    for (own_part, other_part), same in groupby(by_part, key=lambda position: reference.parts[position]):
        pairs = list(same)
        rows = [reference.rows[position] for position in pairs]
        size = _grid(check, own_part, other_part)
        maps = resample(own[rows], own_part, size), resample(other[pairs], other_part, size)
        constant = torch.stack([MaskedMaps(each.flatten(1)).constant for each in maps]).any(dim=0)
        undefined += [row for row, flat in zip(rows, constant.tolist(), strict=True) if flat]
        found = _measure(check, *maps)
        for metric, column in values.items():
            column[rows] = found[metric].double().masked_fill(constant, torch.nan).cpu()
    return values, undefined


def _grid(check: AgreementCheck, own: InputPart, other: InputPart) -> tuple[int, int]:
    """Rows and columns of the grid on which both maps are compared."""
    if check.size is not None:
        return check.size, check.size
    height = min(part.bottom - part.top for part in (own, other))
    width = min(part.right - part.left for part in (own, other))
    return max(1, round(height)), max(1, round(width))


def _measure(check: AgreementCheck, own: Maps, other: Maps) -> dict[str, Float[Tensor, " pair"]]:
    """The measures of pairs of maps on the same grid."""
    found: dict[str, Tensor] = {}
    if {"pearson", "top_k"} & set(check.measures):
        flat = MaskedMaps(own.flatten(1)), MaskedMaps(other.flatten(1))
        pair = compare(*flat, max(1, round(check.top_share * own[0].numel())))
        found = {"pearson": pair.pearson, "top_k": pair.top_k, "top_k_chance": pair.chance}
    if "spearman" in check.measures:
        found["spearman"] = spearman(own, other)
    if "ssim" in check.measures:
        one, two = (_normalized(check, maps) for maps in (own, other))
        found["ssim"] = structural_similarity(one, two, own.new_ones(len(own)), window=check.window)
    return found


def _normalized(check: AgreementCheck, maps: Maps) -> Maps:
    """Each map on its own scale: by its largest absolute value, or from its smallest and largest value to [0, 1]."""
    highest, lowest = (extreme(dim=(1, 2, 3), keepdim=True) for extreme in (maps.amax, maps.amin))
    if check.normalize == "max_abs":
        return maps / torch.maximum(highest.abs(), lowest.abs())
    return (maps - lowest) / (highest - lowest)
