"""What every explainer says about itself, without torch: the base of all explainer contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.image_colors import ImageColor
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import NOTHING, Passes

Need = Literal["forward", "gradient", "modules", "layer", "attention"]
"""What an explainer needs: predictions, gradients, a traceable module graph, a layer of feature maps, attention."""

MapKind = Literal["sensitivity", "attribution", "region"]
"""What the sign of a map says.

`sensitivity`: in which direction a value would have to change to raise the score; it is no evidence. `attribution`:
what each value adds to the score or takes from it, made pixel by pixel from gradients, so that signs alternate between
neighbors and cancel in a sum. `region`: evidence for the class or against it, whose signs agree over areas larger than
a pixel. The composites of layer-wise relevance propagation have their kinds by measurement, see docs/ranking.md.
"""

SharedPass = Literal["logits", "input_gradient", "layer_gradient", "guided_gradient"]
"""A result that several methods read and that is computed once per image for all of them.

`logits`: the predictions. `input_gradient`, `layer_gradient`: gradients by the input or by a layer, which come out of
one pass through the plain model and back, together with the logits. `guided_gradient`: the gradient by the input whose
rectifiers pass back positive gradients only; a pass of its own.
"""

PLAIN_PASS: frozenset[SharedPass] = frozenset({"input_gradient", "layer_gradient"})
"""What one pass through the plain model and back gives."""


class ExplainerServer(NamedTuple):
    """A server that makes maps.

    Attributes:
        url: Its address.
        token_file: File with its bearer token; None sends none.
    """

    url: str
    token_file: str | None


class ExplainerContract(Contract):
    """Base of all explainers.

    A contract holds the parameters of a method and answers what the rest of the program asks about the method. It
    needs no torch. `explainers.registry` names the implementation.

    Attributes:
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        needs: What the model must offer; `needs_of_model` where the parameters decide.
        paper: Where the method is defined.
        default_map_kind: What the sign of its maps says; None if its parameters decide, in `kind_of_map`.
        shared_passes: Results that it reads and shares with other methods; `own_passes` leaves them out.
        diagnostics: What the method reports about itself for each original image, by metric.
        is_control: Whether its maps ignore the model, so that its results are listed as controls.
        computes_maps: Whether it can explain any image; False if its maps exist before the audit.
        follows_weights: Whether its maps change with the weights of the model; False if they come from elsewhere.
        needs_measure_wave: Whether it needs a quantity of all images, which the first wave of the audit measures.
    """

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]
    default_map_kind: ClassVar[MapKind | None]
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset()
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {}
    is_control: ClassVar[bool] = False
    computes_maps: ClassVar[bool] = True
    follows_weights: ClassVar[bool] = True
    needs_measure_wave: ClassVar[bool] = False
    kind: str
    name: Name | None = Field(default=None, description="How the report calls it; its kind if null.")

    @property
    def label(self) -> str:
        """The name under which results are listed."""
        return self.name or self.kind

    @property
    def needs_of_model(self) -> frozenset[Need]:
        """What the model must offer, with these parameters."""
        return self.needs

    @property
    def stochastic(self) -> bool:
        """Whether another draw of its random numbers gives another map of the same image."""
        return False

    @property
    def repeatable(self) -> bool:
        """Whether to compare its map with one of another draw; two maps of a random control are always unrelated."""
        return self.stochastic and not self.is_control

    @property
    def kind_of_map(self) -> MapKind:
        """What the sign of its maps says, which decides how checks order pixels under `rank_by: auto`."""
        if self.default_map_kind is None:
            msg = f"{type(self).__name__} has no default_map_kind; override kind_of_map"
            raise NotImplementedError(msg)
        return self.default_map_kind

    @property
    def compared_with(self) -> Baseline | None:
        """The baseline with which it compares the image; None if it has none."""
        return None

    @property
    def baseline_field(self) -> str:
        """Path of the field that sets `compared_with`."""
        return "baseline"

    @property
    def called_function(self) -> str | None:
        """The function of the team that makes the maps, `module:attribute`; None if there is none."""
        return None

    @property
    def server(self) -> ExplainerServer | None:
        """The server that makes the maps; None if there is none."""
        return None

    @property
    def uploaded_maps(self) -> Sha256 | None:
        """Digest of the file that holds its maps; None if it computes them."""
        return None

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """Passes of one map that it shares with no other method.

        Args:
            original: Whether the image is an original: only then are the diagnostics computed.
            shape: Channels, height and width of the model's input.
        """
        return NOTHING

    def color_read(self, *, original: bool) -> ImageColor | None:
        """The color whose logits it reads; an image of that color passes once for all images.

        Args:
            original: Whether the image that it explains is an original.
        """
        return None

    def measuring_passes(self) -> Passes:
        """Passes per image of the first wave, for methods that need it."""
        return NOTHING

    @property
    def shared_key(self) -> str:
        """The name under which its quantity of all images is shared between shards, if it needs one."""
        return f"explainer.{self.label}"
