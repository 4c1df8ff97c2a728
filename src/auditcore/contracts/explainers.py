"""One class an explainer: configuration, validation, report record and OpenAPI text at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Name

Need = Literal["forward", "gradient", "modules", "layer"]
"""What an explainer asks of a model: predictions, gradients, a traceable module graph, a convolutional layer."""


class ExplainerContract(Contract):
    """Base of all explainers.

    Attributes:
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        needs: What the model must offer.
        paper: Where the method is defined.
    """

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]
    kind: str
    name: Name | None = Field(default=None, description="How the report calls it; its kind if null.")

    @property
    def label(self) -> str:
        """The name under which results are listed."""
        return self.name or self.kind


Steps = Annotated[int, Field(ge=2, le=1000)]


@final
class Gradient(ExplainerContract):
    """Gradient of the target's logit with respect to the input, signed."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Simonyan et al. 2014"
    kind: Literal["gradient"] = "gradient"


@final
class InputXGradient(ExplainerContract):
    """Input times gradient, in normalized space."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Shrikumar et al. 2016"
    kind: Literal["input_x_gradient"] = "input_x_gradient"


@final
class IntegratedGradients(ExplainerContract):
    """Path integral of the gradient from a baseline to the image (Gauss-Legendre quadrature)."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Sundararajan et al. 2017"
    kind: Literal["integrated_gradients"] = "integrated_gradients"
    steps: Steps = 50
    baseline: Literal["black", "mean", "blur"] = Field(
        default="black", description="A color in pixel space, then normalized; blur is Gaussian, 31 pixels, sigma 5."
    )


@final
class SmoothGrad(ExplainerContract):
    """Mean gradient over noisy copies of the input."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Smilkov et al. 2017"
    kind: Literal["smoothgrad"] = "smoothgrad"
    samples: Steps = 50
    std: float = Field(default=0.15, gt=0, le=1, description="Noise, as a share of the input's value range.")


@final
class GuidedBackpropagation(ExplainerContract):
    """Gradient in which rectifiers pass back positive gradients only."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Springenberg et al. 2015"
    kind: Literal["guided_backpropagation"] = "guided_backpropagation"


@final
class Deconvolution(ExplainerContract):
    """Gradient in which rectifiers ignore their input and rectify the gradient."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014"
    kind: Literal["deconvolution"] = "deconvolution"


@final
class GradCam(ExplainerContract):
    """Gradient-weighted class activation map, bilinearly upsampled."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "layer"})
    paper: ClassVar[str] = "Selvaraju et al. 2017"
    kind: Literal["grad_cam"] = "grad_cam"
    layer: str | None = Field(default=None, max_length=256, description="Module path; the last convolution if null.")


@final
class LrpEpsilonPlusFlat(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, z-plus for convolutions, flat for the first layer."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    kind: Literal["lrp_epsilon_plus_flat"] = "lrp_epsilon_plus_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)


@final
class LrpEpsilonGammaBox(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, gamma for convolutions, box for the first layer."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Montavon et al. 2019"
    kind: Literal["lrp_epsilon_gamma_box"] = "lrp_epsilon_gamma_box"
    epsilon: float = Field(default=1e-6, gt=0, le=1)
    gamma: float = Field(default=0.25, gt=0, le=10)


@final
class LrpEpsilonAlpha2Beta1Flat(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, alpha2-beta1 for convolutions, flat for the first layer."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    kind: Literal["lrp_epsilon_alpha2_beta1_flat"] = "lrp_epsilon_alpha2_beta1_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)


@final
class Random(ExplainerContract):
    """Control: independent standard normal noise that knows nothing of the model."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "control"
    kind: Literal["random"] = "random"


Explainer = Annotated[
    Gradient
    | InputXGradient
    | IntegratedGradients
    | SmoothGrad
    | GuidedBackpropagation
    | Deconvolution
    | GradCam
    | LrpEpsilonPlusFlat
    | LrpEpsilonGammaBox
    | LrpEpsilonAlpha2Beta1Flat
    | Random,
    Field(discriminator="kind"),
]
