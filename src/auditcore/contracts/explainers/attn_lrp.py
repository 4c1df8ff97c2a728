"""Layer-wise relevance propagation through attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.explainers.lrp import CONSERVATION
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, Passes


@final
class AttnLrp(ExplainerContract):
    """Layer-wise relevance propagation for transformers, with rules for softmax, matrix products and normalization."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "attention"})
    paper: ClassVar[str] = "Achtibat et al. 2024"
    default_map_kind: ClassVar[MapKind] = "region"
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"conservation": CONSERVATION}
    kind: Literal["attn_lrp"] = "attn_lrp"

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass forward and back, whose gradients are corrected on the way."""
        return GRADIENT
