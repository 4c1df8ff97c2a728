"""Methods that multiply the attention matrices of all layers: attention rollout and gradient-weighted attention."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, Passes

HeadFusion = Literal["mean", "max", "min"]
"""How the attention of several heads becomes one matrix."""


@final
class AttentionRollout(ExplainerContract):
    """Attention of the class token to the patches, followed through all layers; the same for every target class.

    Attributes:
        head_fusion: How the heads of a layer become one matrix.
        discard_ratio: Share of the smallest attention values of each layer that are set to 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "attention"})
    paper: ClassVar[str] = "Abnar & Zuidema 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["attention_rollout"] = "attention_rollout"
    head_fusion: HeadFusion = Field(
        default="mean", description="How the heads of a layer become one matrix; the paper takes the mean."
    )
    discard_ratio: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the smallest values of each layer's matrix that are set to 0; the paper discards none.",
    )

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass forward."""
        return LOGITS


@final
class GradientWeightedAttention(ExplainerContract):
    """Attention of the class token to the patches, weighted by the positive gradient of the target logit."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "attention"})
    paper: ClassVar[str] = "Chefer et al. 2021"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["gradient_weighted_attention"] = "gradient_weighted_attention"

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass forward, and back to the attention of the first layer."""
        return GRADIENT
