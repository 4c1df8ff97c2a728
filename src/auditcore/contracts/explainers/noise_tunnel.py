"""Methods averaged over noisy copies of the image: SmoothGrad and its relatives."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.explainers.cam import GradCam, GuidedGradCam
from auditcore.contracts.explainers.deep_lift import DeepLift
from auditcore.contracts.explainers.explainer import MapKind, Need
from auditcore.contracts.explainers.gradient import Gradient, InputXGradient, IntegratedGradients, Saliency
from auditcore.contracts.explainers.gradient_shap import GradientShap
from auditcore.contracts.explainers.noise import NOISE, NoiseStd, NoisyContract
from auditcore.contracts.explainers.pass_sharing import map_passes
from auditcore.contracts.explainers.rectifiers import Deconvolution, GuidedBackpropagation
from auditcore.contracts.explainers.steps import Steps
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes


@final
class SmoothGrad(NoisyContract):
    """Mean gradient over noisy copies of the input.

    Attributes:
        samples: Noisy copies per image.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Smilkov et al. 2017"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["smoothgrad"] = "smoothgrad"
    samples: Steps = 50
    std: Annotated[NoiseStd, Field(gt=0)] = Field(default=0.15, description=NOISE)

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A gradient per sample."""
        return GRADIENT.times(self.samples)


Tunneled = Annotated[
    Gradient
    | InputXGradient
    | Saliency
    | IntegratedGradients
    | GradientShap
    | DeepLift
    | GuidedBackpropagation
    | Deconvolution
    | GuidedGradCam
    | GradCam,
    Field(discriminator="kind"),
]
"""Gradient methods that a noise tunnel may average."""


@final
class NoiseTunnel(NoisyContract):
    """Another method on noisy copies of the input: mean, mean square or variance of its maps.

    Attributes:
        aggregate: What becomes of the maps of all samples.
        samples: Noisy copies per image.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Smilkov et al. 2017; Hooker et al. 2019; Adebayo et al. 2018"
    default_map_kind: ClassVar[MapKind | None] = None
    kind: Literal["noise_tunnel"] = "noise_tunnel"
    method: Tunneled = Gradient()
    aggregate: Literal["smoothgrad", "smoothgrad_squared", "vargrad"] = "smoothgrad_squared"
    samples: Steps = 50
    std: Annotated[NoiseStd, Field(gt=0)] = Field(default=0.15, description=NOISE)

    @property
    def kind_of_map(self) -> MapKind:
        """That of the method, for every aggregate."""
        return self.method.kind_of_map

    @property
    def compared_with(self) -> Baseline | None:
        """The baseline of the method."""
        return self.method.compared_with

    @property
    def baseline_field(self) -> str:
        """That of the method."""
        return f"method.{self.method.baseline_field}"

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """The method on each noisy copy, with which no other explainer shares a pass."""
        return map_passes((self.method,), shape=shape).times(self.samples)
