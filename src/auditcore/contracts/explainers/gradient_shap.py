"""GradientSHAP: expected gradients between random baselines and the image."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import BASELINES, Baseline
from auditcore.contracts.explainers.explainer import MapKind, Need
from auditcore.contracts.explainers.noise import NOISE, NoiseStd, NoisyContract
from auditcore.contracts.explainers.steps import Steps
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes


@final
class GradientShap(NoisyContract):
    """Expected gradient at random points between random baselines and the image, times their difference.

    Attributes:
        samples: Samples per image.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Lundberg & Lee 2017; Erion et al. 2021"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["gradient_shap"] = "gradient_shap"
    samples: Steps = 50
    baseline: Baseline = Field(default="uniform", description=BASELINES + " Drawn again for each sample.")
    std: NoiseStd = Field(default=0.0, description=NOISE)

    @property
    def compared_with(self) -> Baseline:
        """What the baselines of all samples are drawn from."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A gradient per sample."""
        return GRADIENT.times(self.samples)
