"""KernelSHAP: Shapley values of image segments by weighted least squares."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import Baseline, Color
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.image_colors import ImageColor, is_image_color
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes
from auditcore.counts.cells import cells_within
from auditcore.counts.coalitions import coalition_count


@final
class KernelShap(ExplainerContract):
    """Shapley values of image segments by weighted least squares."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Lundberg & Lee 2017"
    default_map_kind: ClassVar[MapKind] = "region"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"logits"})
    kind: Literal["kernel_shap"] = "kernel_shap"
    segments: Literal["cells", "superpixels"] = Field(default="superpixels", description="Square cells, or SLIC.")
    count: int = Field(
        default=49, ge=2, le=400, description="Segments wanted; a square number of cells is rounded down."
    )
    samples: int = Field(default=1000, ge=4, le=100_000, description="Coalitions; all of them where they are fewer.")
    baseline: Color = Field(default="mean", description="What absent segments show, in pixel space.")

    @property
    def stochastic(self) -> bool:
        """Always, although the draw has no effect where all coalitions are evaluated."""
        return True

    @property
    def compared_with(self) -> Baseline:
        """What absent segments show."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass per coalition, and one of the baseline unless it is a color."""
        segments = cells_within(self.count, shape.height, shape.width).cells if self.segments == "cells" else self.count
        coalitions = LOGITS.times(coalition_count(segments, self.samples))
        return coalitions.plus(NOTHING if is_image_color(self.baseline) else LOGITS)

    def color_read(self, *, original: bool) -> ImageColor | None:
        """The baseline, the value of the empty coalition."""
        return self.baseline if is_image_color(self.baseline) else None
