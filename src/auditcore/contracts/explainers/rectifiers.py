"""Methods that change only how rectifiers pass gradients back: guided backpropagation and deconvolution."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes


@final
class GuidedBackpropagation(ExplainerContract):
    """Gradient in which rectifiers pass back positive gradients only."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Springenberg et al. 2015"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"guided_gradient"})
    kind: Literal["guided_backpropagation"] = "guided_backpropagation"


@final
class Deconvolution(ExplainerContract):
    """Gradient in which rectifiers ignore their input and rectify the gradient."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Zeiler & Fergus 2014"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    kind: Literal["deconvolution"] = "deconvolution"

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass through the changed model and back."""
        return GRADIENT
