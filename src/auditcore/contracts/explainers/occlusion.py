"""Occlusion: what the target's logit loses when a window of the image is covered."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import Baseline, Color
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.windows import windows


@final
class Occlusion(ExplainerContract):
    """Mean loss of the target's logit over the windows that cover a pixel."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014"
    default_map_kind: ClassVar[MapKind] = "region"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"logits"})
    kind: Literal["occlusion"] = "occlusion"
    window: int | None = Field(
        default=None, ge=1, le=4096, description="Side in pixels; a seventh of the image if null."
    )
    stride: int | None = Field(default=None, ge=1, le=4096, description="Step in pixels; half the window if null.")
    baseline: Color = Field(default="mean", description="What a window shows instead, in pixel space.")

    @property
    def compared_with(self) -> Baseline:
        """What a window shows instead."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass per window."""
        return LOGITS.times(windows(self.window, self.stride, shape.height, shape.width).count)
