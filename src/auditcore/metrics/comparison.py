"""Comparison of the maps of two batches; intermediate results that several metrics need are computed once.

A sweep compares the map of every changed copy with the same original by two metrics. Results that depend on only one
of the maps are cached here: whether it is constant, its support, its deviations from the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.metrics.constancy import FLOAT_NOISE
from auditcore.metrics.rounded_relevance import resolved_relevance


@dataclass(frozen=True, eq=False)
class MaskedMaps:
    """Flattened maps and their valid positions.

    Attributes:
        values: (N,P) relevance.
        mask: (N,P) valid positions; None if all are valid.
    """

    values: Float[Tensor, "image position"]
    mask: Bool[Tensor, "image position"] | None = None

    def __post_init__(self) -> None:
        """Refuse a mask of another shape."""
        if self.mask is not None and self.mask.shape != self.values.shape:
            raise ShapeError(expected=tuple(self.values.shape), actual=tuple(self.mask.shape))

    @cached_property
    def positions(self) -> Int[Tensor, " image"]:
        """Number of valid positions."""
        if self.mask is None:
            images, positions = self.values.shape
            return torch.full((images,), positions, device=self.values.device)
        return self.mask.sum(dim=1)

    @cached_property
    def support(self) -> Int[Tensor, " image"]:
        """Number of valid positions whose value is not zero."""
        if self.mask is None:
            return self.values.count_nonzero(dim=1)
        return ((self.values != 0) & self.mask).sum(dim=1)

    @cached_property
    def ranked(self) -> Float[Tensor, "image position"]:
        """Resolved relevance, for ordering; minus infinity at positions that are not valid."""
        if self.mask is None:
            return resolved_relevance(self.values)
        return resolved_relevance(self.values.masked_fill(~self.mask, 0)).masked_fill(~self.mask, -torch.inf)

    @cached_property
    def _extremes(self) -> tuple[Tensor, Tensor]:
        if self.mask is None:
            lowest, highest = self.values.aminmax(dim=1)
            return lowest, highest
        outside = ~self.mask
        return (
            self.values.masked_fill(outside, torch.inf).amin(dim=1),
            self.values.masked_fill(outside, -torch.inf).amax(dim=1),
        )

    @cached_property
    def constant(self) -> Bool[Tensor, " image"]:
        """Maps whose valid values are all equal up to rounding, or not all finite; as `is_constant`."""
        lowest, highest = self._extremes
        # the negation holds for NaN and infinity too; without any position this is not (-inf > inf)
        return ~(highest - lowest > FLOAT_NOISE * torch.maximum(highest.abs(), lowest.abs()))

    @cached_property
    def unit_deviations(self) -> Float[Tensor, "image position"]:
        """Deviations from the mean over valid positions, scaled to length 1, in float64; 0 elsewhere.

        Values are scaled by the largest one first, so that squares of tiny gradients do not underflow.
        """
        lowest, highest = self._extremes
        # a copy even of float64 values, which must stay as they are
        wide = self.values.to(torch.float64, copy=True)
        if self.mask is not None:
            wide.masked_fill_(~self.mask, 0)
        wide.div_(torch.maximum(highest.abs(), lowest.abs()).double()[:, None])
        wide.sub_(wide.sum(dim=1, keepdim=True) / self.positions[:, None])
        if self.mask is not None:
            wide.masked_fill_(~self.mask, 0)
        return wide.div_(torch.linalg.vector_norm(wide, dim=1, keepdim=True))

    def take(self, rows: Int[Tensor, " row"] | Sequence[int]) -> MaskedMaps:
        """Return some of the maps, with their cached results; a row may be repeated."""
        taken = MaskedMaps(self.values[rows], None if self.mask is None else self.mask[rows])
        for name in ("positions", "support", "constant", "unit_deviations"):
            if name in self.__dict__:
                taken.__dict__[name] = self.__dict__[name][rows]
        return taken


def correlation(a: MaskedMaps, b: MaskedMaps) -> Float[Tensor, " image"]:
    """Compute the Pearson correlation over valid positions, all values together.

    Args:
        a: One map per image.
        b: The maps to compare with, with the same mask.

    Returns:
        Correlations in [-1, 1]; NaN if either map is constant on the mask or no position is valid.

    Raises:
        ShapeError: The shapes differ.

    Source: Tetkova & Hansen 2023.
    """
    if a.values.shape != b.values.shape:
        raise ShapeError(expected=tuple(a.values.shape), actual=tuple(b.values.shape))
    found = torch.linalg.vecdot(a.unit_deviations, b.unit_deviations).clamp(-1, 1)
    correlations: Tensor = found.masked_fill(a.constant | b.constant, torch.nan).to(a.values.dtype)
    return correlations
