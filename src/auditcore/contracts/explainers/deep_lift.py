"""DeepLIFT with the rescale rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import BASELINES, NOISE_BASELINES, Baseline
from auditcore.contracts.explainers.diagnostics import COMPLETENESS_ERROR, Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, Passes


@final
class DeepLift(ExplainerContract):
    """DeepLIFT with the rescale rule, where every nonlinearity of the model has one."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Shrikumar et al. 2017"
    default_map_kind: ClassVar[MapKind] = "attribution"
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"completeness_error": COMPLETENESS_ERROR}
    kind: Literal["deep_lift"] = "deep_lift"
    baseline: Baseline = Field(default="black", description=BASELINES)

    @property
    def stochastic(self) -> bool:
        """Only with a baseline that is drawn at random."""
        return self.baseline in NOISE_BASELINES

    @property
    def compared_with(self) -> Baseline:
        """The reference."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """The baseline forward, and the image forward and back."""
        return LOGITS.plus(GRADIENT)
