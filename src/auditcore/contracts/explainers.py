"""One class an explainer: configuration, validation, report record and OpenAPI text at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Name, Sha256

Need = Literal["forward", "gradient", "modules", "layer"]
"""What an explainer asks of a model: predictions, gradients, a traceable module graph, a convolutional layer."""


MapKind = Literal["sensitivity", "attribution", "region"]
"""What the sign of a map says.

`sensitivity`: in which direction a value would have to change to raise the score; it is no evidence. `attribution`:
what each value adds to the score or takes from it, made pixel by pixel from gradients, so that signs alternate between
neighbors and cancel in a sum. `region`: evidence for the class or against it, whose signs agree over areas larger than
a pixel. The composites of layer-wise relevance propagation have their kinds by measurement, see docs/ranking.md.
"""


class ExplainerContract(Contract):
    """Base of all explainers.

    Attributes:
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        needs: What the model must capabilities.
        paper: Where the method is defined.
        default_map_kind: What the sign of its maps says, unless its parameters decide that; see `kind_of_map`.
    """

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]
    default_map_kind: ClassVar[MapKind]
    kind: str
    name: Name | None = Field(default=None, description="How the report calls it; its kind if null.")

    @property
    def label(self) -> str:
        """The name under which results are listed."""
        return self.name or self.kind

    @property
    def stochastic(self) -> bool:
        """Whether another draw of its random numbers gives another map of the same image."""
        return False

    @property
    def kind_of_map(self) -> MapKind:
        """What the sign of its maps says, which decides how checks order pixels under `rank_by: auto`."""
        return self.default_map_kind


Steps = Annotated[int, Field(ge=2, le=1000)]
Color = Literal["black", "mean", "blur"]
Baseline = Literal["black", "mean", "blur", "gaussian", "uniform", "normal", "maximum_distance"]
BASELINES = (
    "In pixel space, then normalized. black; mean: the model's mean color; blur: the image under a Gaussian of 31 "
    "pixels, sigma 5; gaussian: the image plus noise of standard deviation 0.5, clipped; uniform: noise over the whole "
    "range; normal: standard normal noise in normalized space, not clipped; maximum_distance: black or white, "
    "whichever is farther from each value. Noise has the image's own stream."
)
NOISE_BASELINES = frozenset({"gaussian", "uniform", "normal"})
"""Baselines that are drawn at random."""


NoiseUnit = Literal["range", "normalized"]
NOISE_UNIT = (
    "What `std` counts in. range: the input's value range, so that 0.15 is 15 % of the way from black to white. "
    "normalized: the values the model sees, so that 1 is the deviation it divides each channel by, as in captum."
)
NOISE = "Standard deviation of the noise added to the image, in `std_unit`; as a share of the range at most 1."
NoiseStd = Annotated[float, Field(ge=0, le=100)]


class NoisyContract(ExplainerContract):
    """Base of methods that add normal noise to the image.

    Attributes:
        std: Standard deviation of the noise, in `std_unit`; at most 1 as a share of the value range.
        std_unit: What it counts in.
    """

    std: NoiseStd
    std_unit: NoiseUnit = Field(default="range", description=NOISE_UNIT)

    @model_validator(mode="after")
    def _share_is_one(self) -> NoisyContract:
        if self.std_unit == "range" and self.std > 1:
            msg = (
                f"std is {self.std:g}, but as a share of the value range it is at most 1; "
                "set std_unit to 'normalized' for noise in units of the normalized input"
            )
            raise ValueError(msg)
        return self


@final
class Gradient(ExplainerContract):
    """Gradient of the target's logit with respect to the input, signed."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Simonyan et al. 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["gradient"] = "gradient"


@final
class InputXGradient(ExplainerContract):
    """Input times gradient, in normalized space."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Shrikumar et al. 2016"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["input_x_gradient"] = "input_x_gradient"


@final
class IntegratedGradients(ExplainerContract):
    """Path integral of the gradient from a baseline to the image (Gauss-Legendre quadrature).

    Attributes:
        steps: Points of the path from the baseline to the image.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Sundararajan et al. 2017"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["integrated_gradients"] = "integrated_gradients"
    steps: Steps = 50
    baseline: Baseline = Field(default="black", description=BASELINES)

    @property
    def stochastic(self) -> bool:
        """Only with a baseline that is drawn at random."""
        return self.baseline in NOISE_BASELINES


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

    @property
    def stochastic(self) -> bool:
        """Always: it draws noise for each sample."""
        return True


@final
class GuidedBackpropagation(ExplainerContract):
    """Gradient in which rectifiers pass back positive gradients only."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Springenberg et al. 2015"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["guided_backpropagation"] = "guided_backpropagation"


@final
class Deconvolution(ExplainerContract):
    """Gradient in which rectifiers ignore their input and rectify the gradient."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["deconvolution"] = "deconvolution"


@final
class GradCam(ExplainerContract):
    """Gradient-weighted class activation map, bilinearly upsampled."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "layer"})
    paper: ClassVar[str] = "Selvaraju et al. 2017"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["grad_cam"] = "grad_cam"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path; if null, the output of the last block around which nothing flows to the logits. The "
        "report names the layer taken.",
    )


@final
class LrpEpsilonPlusFlat(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, z-plus for convolutions, flat for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["lrp_epsilon_plus_flat"] = "lrp_epsilon_plus_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)


@final
class LrpEpsilonGammaBox(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, gamma for convolutions, box for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
        gamma: Extra weight of positive contributions in convolutions.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Montavon et al. 2019"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["lrp_epsilon_gamma_box"] = "lrp_epsilon_gamma_box"
    epsilon: float = Field(default=1e-6, gt=0, le=1)
    gamma: float = Field(default=0.25, gt=0, le=10)


@final
class LrpEpsilonAlpha2Beta1Flat(ExplainerContract):
    """Layer-wise relevance propagation: epsilon for dense, alpha2-beta1 for convolutions, flat for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["lrp_epsilon_alpha2_beta1_flat"] = "lrp_epsilon_alpha2_beta1_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)


@final
class Saliency(ExplainerContract):
    """Absolute gradient, the largest over the channels of each pixel; never negative."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Simonyan et al. 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["saliency"] = "saliency"
    channels: Literal["max", "each"] = Field(
        default="max", description="The largest over channels, as in the paper, or each channel's own, as in captum."
    )


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
    baseline: Baseline = Field(default="uniform", description=BASELINES + " Drawn anew for each sample.")
    std: NoiseStd = Field(default=0.0, description=NOISE)

    @property
    def stochastic(self) -> bool:
        """Always: it draws a point of the path for each sample."""
        return True


@final
class DeepLift(ExplainerContract):
    """DeepLIFT with the rescale rule, where every nonlinearity of the model has one."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Shrikumar et al. 2017"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["deep_lift"] = "deep_lift"
    baseline: Baseline = Field(default="black", description=BASELINES)

    @property
    def stochastic(self) -> bool:
        """Only with a baseline that is drawn at random."""
        return self.baseline in NOISE_BASELINES


@final
class GuidedGradCam(ExplainerContract):
    """Grad-CAM times guided backpropagation."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules", "layer"})
    paper: ClassVar[str] = "Selvaraju et al. 2017"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["guided_grad_cam"] = "guided_grad_cam"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path of Grad-CAM's layer, or `first` for the first convolution; chosen as by grad_cam if "
        "null.",
    )


@final
class Iba(ExplainerContract):
    """Information bottleneck: how much of a layer's information each position needs, in bits.

    Attributes:
        learning_rate: Step size of Adam.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "layer"})
    paper: ClassVar[str] = "Schulz et al. 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["iba"] = "iba"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path; if null, of the layers around which no information flows, the one that ends nearest "
        "to two thirds of the convolutions and linear layers with feature maps.",
    )
    beta: float = Field(default=10.0, gt=0, le=1000, description="Weight of information against cross-entropy.")
    steps: int = Field(default=10, ge=1, le=100, description="Adam steps.")
    samples: int = Field(default=10, ge=1, le=100, description="Noise samples a step.")
    learning_rate: float = Field(default=1.0, gt=0, le=10)
    smoothing: float = Field(default=1.0, ge=0, le=10, description="Sigma of the Gaussian over the mask, positions.")
    statistics: Literal["channel", "neuron"] = Field(
        default="channel",
        description="What the noise imitates, measured on the images of the audit. channel: mean and standard "
        "deviation of each channel, over all positions; neuron: of each channel at each position, as the authors do "
        "with 10 000 images. It needs at least two images, and many to be of use.",
    )

    @property
    def stochastic(self) -> bool:
        """Always: it draws noise for each step."""
        return True


@final
class Occlusion(ExplainerContract):
    """Mean loss of the target's logit over the windows that cover a pixel."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["occlusion"] = "occlusion"
    window: int | None = Field(
        default=None, ge=1, le=4096, description="Side in pixels; a seventh of the image if null."
    )
    stride: int | None = Field(default=None, ge=1, le=4096, description="Step in pixels; half the window if null.")
    baseline: Color = Field(default="mean", description="What a window shows instead, in pixel space.")


@final
class Ablation(ExplainerContract):
    """Loss of the target's logit when a cell of the image is replaced; every pixel of the cell gets it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014; Kokhlikyan et al. 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["ablation"] = "ablation"
    grid: int | None = Field(
        default=None, ge=2, le=64, description="Cells a side; 14 for images of at least 128 pixels, else 8, if null."
    )
    baseline: Color = Field(default="mean", description="What a cell shows instead, in pixel space.")


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
    cells: int = Field(default=7, ge=2, le=64, description="Cells a side of a mask before it is upsampled.")
    keep: float = Field(default=0.5, gt=0, lt=1, description="Probability that a cell stays.")

    @property
    def stochastic(self) -> bool:
        """Always: it draws masks."""
        return True


@final
class KernelShap(ExplainerContract):
    """Shapley values of image segments by weighted least squares."""

    needs: ClassVar[frozenset[Need]] = frozenset({"forward"})
    paper: ClassVar[str] = "Lundberg & Lee 2017"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["kernel_shap"] = "kernel_shap"
    segments: Literal["cells", "superpixels"] = Field(default="superpixels", description="Square cells, or SLIC.")
    count: int = Field(
        default=49, ge=2, le=400, description="Segments wanted; a square number of cells is rounded down."
    )
    samples: int = Field(default=1000, ge=4, le=100_000, description="Coalitions; all of them where they are fewer.")
    baseline: Color = Field(default="mean", description="What absent segments show, in pixel space.")

    @property
    def stochastic(self) -> bool:
        """Always, though no number counts where all coalitions are affordable."""
        return True


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
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["noise_tunnel"] = "noise_tunnel"
    method: Tunneled = Gradient()
    aggregate: Literal["smoothgrad", "smoothgrad_squared", "vargrad"] = "smoothgrad_squared"
    samples: Steps = 50
    std: Annotated[NoiseStd, Field(gt=0)] = Field(default=0.15, description=NOISE)

    @property
    def stochastic(self) -> bool:
        """Always: it draws noise for each sample."""
        return True

    @property
    def kind_of_map(self) -> MapKind:
        """That of the method, whichever way its maps are joined."""
        return self.method.kind_of_map


@final
class Random(ExplainerContract):
    """Control: independent standard normal noise that knows nothing of the model."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "control"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["random"] = "random"

    @property
    def stochastic(self) -> bool:
        """Always: it is nothing but its draw, so a check of repeatability leaves it out."""
        return True


@final
class Precomputed(ExplainerContract):
    """Maps that were uploaded, such as those a product shows: one for each image, of the class that is explained.

    Checks that explain changed copies of an image are not applicable, since nobody is there to explain them.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "uploaded"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["precomputed"] = "precomputed"
    maps: Sha256 = Field(description="Digest of the uploaded maps, from the answer to POST /v1/maps.")
    map_kind: MapKind = Field(
        default="region",
        description="What the sign of the maps says, which decides how checks with `rank_by: auto` order pixels. "
        "region: evidence for or against the class, over areas; ordered with the sign. attribution: what each pixel "
        "adds to the score, made from gradients; ordered by size. sensitivity: in which direction a pixel would have "
        "to change; ordered by size.",
    )

    @property
    def kind_of_map(self) -> MapKind:
        """As declared."""
        return self.map_kind


def shared_key(explainer: ExplainerContract) -> str:
    """Under which name a quantity that an explainer measures over the whole audit is shared between shards."""
    return f"explainer.{explainer.label}"


Explainer = Annotated[
    Gradient
    | Saliency
    | InputXGradient
    | IntegratedGradients
    | GradientShap
    | SmoothGrad
    | NoiseTunnel
    | DeepLift
    | GuidedBackpropagation
    | Deconvolution
    | GradCam
    | GuidedGradCam
    | Iba
    | LrpEpsilonPlusFlat
    | LrpEpsilonGammaBox
    | LrpEpsilonAlpha2Beta1Flat
    | Occlusion
    | Ablation
    | Rise
    | KernelShap
    | Random
    | Precomputed,
    Field(discriminator="kind"),
]
