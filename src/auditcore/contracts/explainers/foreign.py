"""Explainers of other libraries and of the team itself: what their contracts have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, JsonValue

from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract
from auditcore.contracts.explainers.pass_sharing import map_passes
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import NOTHING, Passes

COSINE_TO_OWN = Diagnostic(
    metric=Metric(
        control=True,
        unit="cosine",
        higher_is_better=None,
        lowest=-1,
        highest=1,
        meaning="Cosine of the map of a library and auditcore's own map by the same method with the same parameters, "
        "channels summed where their numbers differ. 1 means the same map up to a positive factor.",
    ),
    undefined="one of the two maps is zero everywhere, or auditcore's own method does not apply to this model",
)


class ForeignExplainer(ExplainerContract):
    """Base of explainers whose maps are computed by foreign code, with arguments from the request.

    They always run in float32 on a private copy of the model, which counts its passes like the model itself.

    Attributes:
        arguments: Arguments by name.
    """

    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    def __hash__(self) -> int:
        """By content: arguments may hold lists, which have no hash of their own."""
        return hash(self.model_dump_json())


class LibraryExplainer(ForeignExplainer):
    """Base of the methods of known libraries, of which some exist in auditcore too."""

    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"cosine_to_own": COSINE_TO_OWN}

    @property
    def counterpart(self) -> ExplainerContract | None:
        """Auditcore's own method with the same parameters, or None if there is none."""
        raise NotImplementedError

    def library_passes(self, *, shape: InputShape) -> Passes:
        """Passes of one map by the library.

        Args:
            shape: Channels, height and width of the model's input.
        """
        raise NotImplementedError

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """Those of the library and, for an original, those of auditcore's own method, which is compared with it."""
        own = self.counterpart if original else None
        compared = NOTHING if own is None else map_passes((own,), shape=shape)
        return self.library_passes(shape=shape).plus(compared)
