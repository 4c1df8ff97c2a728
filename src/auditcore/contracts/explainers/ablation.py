"""Ablation: what the target's logit loses when a cell of the image is replaced."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import Baseline, Color
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.cells import grid_of


@final
class Ablation(ExplainerContract):
    """Loss of the target's logit when a cell of the image is replaced; every pixel of the cell gets it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014; Kokhlikyan et al. 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"logits"})
    kind: Literal["ablation"] = "ablation"
    grid: int | None = Field(
        default=None,
        ge=2,
        le=64,
        description="Cells along the shorter side; 14 if it has at least 128 pixels, else 8, if null.",
    )
    baseline: Color = Field(default="mean", description="What a cell shows instead, in pixel space.")

    @property
    def compared_with(self) -> Baseline:
        """What a cell shows instead."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass per cell."""
        return LOGITS.times(grid_of(self.grid, shape.height, shape.width).cells)
