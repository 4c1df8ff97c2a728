"""Per-sample information bottleneck: how many bits of a layer each position needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, Passes

STATISTICS_AGREEMENT = Diagnostic(
    metric=Metric(
        control=True,
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of two maps of an information bottleneck, with the layer's statistics over every "
        "other image of the audit and over the rest: low where a map depends on the other images.",
    ),
    undefined="one of the two maps is constant or not finite, or a half of the audit's images is too small for "
    "statistics of its own",
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
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"statistics_agreement": STATISTICS_AGREEMENT}
    needs_measure_wave: ClassVar[bool] = True
    kind: Literal["iba"] = "iba"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path; if null, of the layers through which all information flows, the one that ends "
        "nearest to two thirds of the convolutions and linear layers with feature maps.",
    )
    beta: float = Field(default=10.0, gt=0, le=1000, description="Weight of information against cross-entropy.")
    steps: int = Field(default=10, ge=1, le=100, description="Adam steps.")
    samples: int = Field(default=10, ge=1, le=100, description="Noise samples per step.")
    learning_rate: float = Field(default=1.0, gt=0, le=10)
    smoothing: float = Field(default=1.0, ge=0, le=10, description="Sigma of the Gaussian over the mask, positions.")
    statistics: Literal["channel", "neuron"] = Field(
        default="channel",
        description="What the noise imitates, measured on the images of the audit. channel: mean and standard "
        "deviation of each channel, over all positions; neuron: of each channel at each position, as the authors do "
        "with 10 000 images. It needs at least two images, and many for a useful estimate.",
    )

    @property
    def stochastic(self) -> bool:
        """Always: it draws noise for each step."""
        return True

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """The layer's output and a gradient per step and sample; the diagnostic of an original needs two more maps."""
        optimized = 3 if original else 1
        return LOGITS.plus(GRADIENT.times(self.steps * self.samples * optimized))

    def measuring_passes(self) -> Passes:
        """The layer's output, for its statistics."""
        return LOGITS
