"""The team's own function that makes heat maps."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field, JsonValue, model_validator

from auditcore.contracts.explainers.explainer import MapKind, Need
from auditcore.contracts.explainers.foreign import ForeignExplainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import FactoryTarget
from auditcore.contracts.pass_counts import Passes

_MOST_ARGUMENTS = 64


@final
class CallableExplainer(ForeignExplainer):
    """A function of the team, `explain(model, images, targets) -> maps`, that the operator has allowed by name.

    `model` is a private copy of the model in evaluation mode, `images` (N,C,H,W) its normalized input, `targets` (N,)
    the classes; all on the device of the model. It returns finite maps (N,H,W), (N,1,H,W) or (N,C,H,W) as a tensor or
    an array. Before the first image, a trial finds whether the maps have these properties, whether they are the same
    twice, and whether they depend on the other images of a batch; what it finds must agree with `draws` and `batched`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "the team's own"
    default_map_kind: ClassVar[MapKind | None] = None
    kind: Literal["callable"] = "callable"
    target: FactoryTarget = Field(description="The function, `module:attribute.path`; the operator allows it by name.")
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=_MOST_ARGUMENTS,
        description="Further keyword arguments of the call, as JSON values.",
    )
    map_kind: MapKind = Field(
        default="region",
        description="What the sign of the maps says, which decides how checks with `rank_by: auto` order pixels; as "
        "for `precomputed`.",
    )
    model_access: Literal["gradients", "predictions"] = Field(
        default="gradients",
        description="What it needs of the model. With `predictions` it also runs on models behind a server.",
    )
    draws: bool = Field(
        default=False,
        description="Whether it draws random numbers. It is then called for one image at a time, and the generators of "
        "torch, NumPy and Python begin with a number from the image's own stream.",
    )
    batched: bool = Field(
        default=True,
        description="Whether it may get several images at once. Set it to false where an image's map depends on the "
        "other images, such as a map scaled by the largest value of the batch.",
    )
    forward_passes: int = Field(
        default=1, ge=0, le=1_000_000, description="Expected images forward per map, for the estimate of the cost."
    )
    backward_passes: int = Field(
        default=1, ge=0, le=1_000_000, description="Expected images backward per map, for the estimate of the cost."
    )
    timeout_s: float = Field(
        default=60.0, ge=0.1, le=600, description="Longest time of one call, in seconds; the audit fails after it."
    )

    @model_validator(mode="after")
    def _arguments_have_names(self) -> CallableExplainer:
        for name in self.arguments:
            if not name.isidentifier() or name in {"model", "images", "targets"}:
                msg = f"arguments: {name!r} is no name of a further keyword argument; rename it"
                raise ValueError(msg)
        return self

    @property
    def needs_of_model(self) -> frozenset[Need]:
        """As declared."""
        return frozenset({"forward"}) if self.model_access == "predictions" else self.needs

    @property
    def stochastic(self) -> bool:
        """As declared; the trial refuses a function that draws without saying so."""
        return self.draws

    @property
    def kind_of_map(self) -> MapKind:
        """As declared."""
        return self.map_kind

    @property
    def called_function(self) -> str:
        """The function."""
        return self.target

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """As declared; the ledger counts those that were made."""
        return Passes(self.forward_passes, self.backward_passes)
