"""RISE: which pixels are visible when the model is confident."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, Passes


@final
class Rise(ExplainerContract):
    """Mean of random soft masks, weighted by the target's probability under them.

    Attributes:
        masks: Random masks per image.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Petsiuk et al. 2018"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["rise"] = "rise"
    masks: int = Field(default=4000, ge=2, le=100_000)
    cells: int = Field(
        default=7, ge=2, le=64, description="Cells along the shorter side of a mask before it is upsampled."
    )
    keep: float = Field(default=0.5, gt=0, lt=1, description="Probability that a cell stays.")

    @property
    def stochastic(self) -> bool:
        """Always: it draws masks."""
        return True

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass per mask."""
        return LOGITS.times(self.masks)
