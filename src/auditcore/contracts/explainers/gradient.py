"""Methods made of plain gradients: gradient, saliency, input times gradient, integrated gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.baselines import BASELINES, NOISE_BASELINES, Baseline
from auditcore.contracts.explainers.diagnostics import COMPLETENESS_ERROR, Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.explainers.steps import Steps
from auditcore.contracts.image_colors import ImageColor, is_image_color
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, NOTHING, Passes


@final
class Gradient(ExplainerContract):
    """Gradient of the target's logit with respect to the input, signed."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Simonyan et al. 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"input_gradient"})
    kind: Literal["gradient"] = "gradient"


@final
class Saliency(ExplainerContract):
    """Absolute gradient, the largest over the channels of each pixel; never negative."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Simonyan et al. 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"input_gradient"})
    kind: Literal["saliency"] = "saliency"
    channels: Literal["max", "each"] = Field(
        default="max", description="The largest over channels, as in the paper, or each channel's own, as in captum."
    )


@final
class InputXGradient(ExplainerContract):
    """Input times gradient, in normalized space."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Shrikumar et al. 2016"
    default_map_kind: ClassVar[MapKind] = "attribution"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"input_gradient"})
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
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"completeness_error": COMPLETENESS_ERROR}
    kind: Literal["integrated_gradients"] = "integrated_gradients"
    steps: Steps = 50
    baseline: Baseline = Field(default="black", description=BASELINES)

    @property
    def stochastic(self) -> bool:
        """Only with a baseline that is drawn at random."""
        return self.baseline in NOISE_BASELINES

    @property
    def compared_with(self) -> Baseline:
        """The start of the path."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A gradient per step; the completeness error of an original reads the logits of its baseline."""
        reads_baseline = original and not is_image_color(self.baseline)
        return GRADIENT.times(self.steps).plus(LOGITS if reads_baseline else NOTHING)

    def color_read(self, *, original: bool) -> ImageColor | None:
        """The baseline, for the completeness error of an original."""
        return self.baseline if original and is_image_color(self.baseline) else None
