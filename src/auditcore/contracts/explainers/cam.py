"""Methods that weight feature maps: Grad-CAM, by itself and times guided backpropagation."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass


@final
class GradCam(ExplainerContract):
    """Gradient-weighted class activation map, bilinearly upsampled."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "layer"})
    paper: ClassVar[str] = "Selvaraju et al. 2017"
    default_map_kind: ClassVar[MapKind] = "region"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"layer_gradient"})
    kind: Literal["grad_cam"] = "grad_cam"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path; if null, the output of the last block through which everything flows to the logits. "
        "The report names the layer.",
    )


@final
class GuidedGradCam(ExplainerContract):
    """Grad-CAM times guided backpropagation."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules", "layer"})
    paper: ClassVar[str] = "Selvaraju et al. 2017"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"layer_gradient", "guided_gradient"})
    kind: Literal["guided_grad_cam"] = "guided_grad_cam"
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path of Grad-CAM's layer, or `first` for the first convolution; if null, chosen as for "
        "grad_cam.",
    )
