"""Similarity of two maps of an image, as measured by a sweep: correlation and overlap of the top k."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.metrics.comparison import MaskedMaps, correlation
from auditcore.metrics.ranking import overlap
from auditcore.random_numbers.streams import kernels_work


class PairComparison(NamedTuple):
    """Measures of a sweep for each pair of maps.

    Attributes:
        pearson: Correlation; NaN where undefined.
        top_k: Share of the most relevant positions that the maps have in common; NaN where undefined.
        chance: Expected share if one of the maps were shuffled; NaN where undefined.
    """

    pearson: Float[Tensor, " image"]
    top_k: Float[Tensor, " image"]
    chance: Float[Tensor, " image"]


def compare(before: MaskedMaps, after: MaskedMaps, k: int) -> PairComparison:
    """Compute correlation and overlap of the top k of each pair.

    CUDA uses our own kernels. Where they cannot be compiled, it uses the same functions as the CPU.

    Args:
        before: One map per image.
        after: The maps to compare with, with the same mask.
        k: Number of most relevant positions, before both caps; see `top_k_overlap`.

    Source: Tetkova & Hansen 2023, with k = 1000.
    """
    device = before.values.device
    if device.type == "cuda" and before.values.dtype == torch.float32 and kernels_work(device):
        from auditcore.metrics.cuda_comparison import compare_pairs  # noqa: PLC0415 - needs a compiler for CUDA

        found = compare_pairs(before.values, after.values, before.mask, k)
        return PairComparison(*found)
    agreement = overlap(before, after, k)
    return PairComparison(correlation(before, after), agreement.values, agreement.chance)
