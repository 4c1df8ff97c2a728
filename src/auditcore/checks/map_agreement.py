"""How far two maps of an image agree: on which grid they are compared, and by which measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.contracts.checks import AgreementCheck
from auditcore.images.placement import InputPart
from auditcore.metrics.comparison import MaskedMaps
from auditcore.metrics.map_pairs import compare
from auditcore.metrics.rank_correlation import spearman
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.resampling import resample
from auditcore.metrics.structural_similarity import structural_similarity

NO_WINDOW = "no window of SSIM fits into the part of the image that both models see; set a smaller `window`"

Maps = Float[Tensor, "image 1 height width"]


class Placement(NamedTuple):
    """Which parts of two maps are compared, and on which grid.

    Attributes:
        first: Part of the first map.
        second: Part of the second map.
        size: Rows and columns of the grid.
    """

    first: InputPart
    second: InputPart
    size: tuple[int, int]


class MapPair(NamedTuple):
    """Two maps that are compared.

    Attributes:
        first: Position of the first map among the first maps.
        second: Position of the second map among the second maps.
        placement: What of them is compared.
    """

    first: int
    second: int
    placement: Placement


class MapAgreement(NamedTuple):
    """How far maps agree.

    Attributes:
        values: Metric -> one value per pair, float64; NaN where undefined.
        constant: Pairs of which a map is constant or not finite.
    """

    values: Mapping[str, Float[Tensor, " pair"]]
    constant: Bool[Tensor, " pair"]


def scalar_maps(check: AgreementCheck, maps: Float[Tensor, "image channel height width"]) -> Maps:
    """Maps with one value per pixel, in float64; absolute if the check asks for that."""
    reduced = reduce_channels(maps.double(), check.reduce)
    return reduced.abs() if check.absolute else reduced


def grid(check: AgreementCheck, own: InputPart, other: InputPart) -> tuple[int, int]:
    """Rows and columns of the grid on which the maps of two models are compared.

    Args:
        check: It may declare the size.
        own: Part of the image that both models see, in the input of the model under audit.
        other: The same in the input of the reference model.
    """
    if check.size is not None:
        return check.size, check.size
    height = min(part.bottom - part.top for part in (own, other))
    width = min(part.right - part.left for part in (own, other))
    return max(1, round(height)), max(1, round(width))


def compare_maps(
    check: AgreementCheck,
    first: Float[Tensor, "first 1 first_height first_width"],
    second: Float[Tensor, "second 1 second_height second_width"],
    pairs: Sequence[MapPair],
) -> MapAgreement:
    """Every measure of a check for pairs of maps. Nothing is read from the device.

    Args:
        check: Its measures.
        first: The first maps, from `scalar_maps`.
        second: The second maps; their height and width may be others.
        pairs: Which of them are compared.

    Returns:
        One value per pair for each of `measures`, and `top_k_chance` with `top_k`.
    """
    names = (*check.measures, *(("top_k_chance",) if "top_k" in check.measures else ()))
    values = {name: first.new_full((len(pairs),), torch.nan) for name in names}
    constant = torch.zeros(len(pairs), dtype=torch.bool, device=first.device)
    # pairs on the same grid are compared together
    numbered = sorted(enumerate(pairs), key=lambda entry: entry[1].placement)
    for placement, same in groupby(numbered, key=lambda entry: entry[1].placement):
        places, listed = zip(*same, strict=True)
        ones = resample(first[[pair.first for pair in listed]], placement.first, placement.size)
        others = resample(second[[pair.second for pair in listed]], placement.second, placement.size)
        flat = [MaskedMaps(each.flatten(1)).constant for each in (ones, others)]
        place = list(places)
        constant[place] = flat[0] | flat[1]
        found = _measure(check, ones, others)
        for name, column in values.items():
            column[place] = found[name].double().masked_fill(flat[0] | flat[1], torch.nan)
    return MapAgreement(values, constant)


def _measure(check: AgreementCheck, ones: Maps, others: Maps) -> dict[str, Float[Tensor, " pair"]]:
    """The measures of pairs of maps on the same grid."""
    found: dict[str, Tensor] = {}
    if {"pearson", "top_k"} & set(check.measures):
        flat = MaskedMaps(ones.flatten(1)), MaskedMaps(others.flatten(1))
        pair = compare(*flat, max(1, round(check.top_share * ones[0].numel())))
        found = {"pearson": pair.pearson, "top_k": pair.top_k, "top_k_chance": pair.chance}
    if "spearman" in check.measures:
        found["spearman"] = spearman(ones, others)
    if "ssim" in check.measures:
        one, two = (_normalized(check, maps) for maps in (ones, others))
        found["ssim"] = structural_similarity(one, two, ones.new_ones(len(ones)), window=check.window)
    return found


def _normalized(check: AgreementCheck, maps: Maps) -> Maps:
    """Each map on its own scale: by its largest absolute value, or from its smallest and largest value to [0, 1]."""
    highest, lowest = (extreme(dim=(1, 2, 3), keepdim=True) for extreme in (maps.amax, maps.amin))
    if check.normalize == "max_abs":
        return maps / torch.maximum(highest.abs(), lowest.abs())
    return (maps - lowest) / (highest - lowest)
