"""How alike two maps of an image are, by all that a sweep measures: correlation and agreement of the top k."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.metrics.comparison import MaskedMaps, correlation
from auditcore.metrics.ranking import overlap
from auditcore.random_numbers.streams import kernels_work


class PairComparison(NamedTuple):
    """What a sweep measures of each pair.

    Attributes:
        pearson: Correlation; NaN where undefined.
        top_k: Share of the most relevant positions that both maps have; NaN where undefined.
        chance: What the maps would share if one of them were shuffled; NaN where undefined.
    """

    pearson: Float[Tensor, " image"]
    top_k: Float[Tensor, " image"]
    chance: Float[Tensor, " image"]


def compare(before: MaskedMaps, after: MaskedMaps, k: int) -> PairComparison:
    """Correlation and overlap of the top k of each pair.

    On CUDA, kernels of our own compare; wherever there is no compiler for them, the same functions as on the CPU.

    Args:
        before: One map for each image.
        after: The map it is compared with, with the same mask.
        k: Most relevant positions, before both caps; see `top_k_overlap`.

    Source: Tetkova & Hansen 2023, with k = 1000.
    """
    device = before.values.device
    if device.type == "cuda" and before.values.dtype == torch.float32 and kernels_work(device):
        from auditcore.metrics.cuda_comparison import compare_pairs  # noqa: PLC0415 - needs a compiler for CUDA

        found = compare_pairs(before.values, after.values, before.mask, k)
        return PairComparison(*found)
    agreement = overlap(before, after, k)
    return PairComparison(correlation(before, after), agreement.values, agreement.chance)
