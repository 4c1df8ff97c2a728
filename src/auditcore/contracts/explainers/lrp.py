"""Layer-wise relevance propagation: three composites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import RELEVANCE, Passes

CONSERVATION = Diagnostic(
    metric=Metric(
        control=True,
        unit="ratio",
        higher_is_better=None,
        meaning="Sum of relevance / f(x) of layer-wise relevance propagation; biases and softmax absorb the rest.",
    ),
    undefined="the logit it is relative to is 0",
)


class _RelevancePropagation(ExplainerContract):
    """Base of the composites: each carries relevance back once."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"conservation": CONSERVATION}

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A pass forward, and the relevance back."""
        return RELEVANCE


@final
class LrpEpsilonPlusFlat(_RelevancePropagation):
    """Layer-wise relevance propagation: epsilon for dense, z-plus for convolutions, flat for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
    """

    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["lrp_epsilon_plus_flat"] = "lrp_epsilon_plus_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)


@final
class LrpEpsilonGammaBox(_RelevancePropagation):
    """Layer-wise relevance propagation: epsilon for dense, gamma for convolutions, box for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
        gamma: Extra weight of positive contributions in convolutions.
    """

    paper: ClassVar[str] = "Montavon et al. 2019"
    default_map_kind: ClassVar[MapKind] = "region"
    kind: Literal["lrp_epsilon_gamma_box"] = "lrp_epsilon_gamma_box"
    epsilon: float = Field(default=1e-6, gt=0, le=1)
    gamma: float = Field(default=0.25, gt=0, le=10)


@final
class LrpEpsilonAlpha2Beta1Flat(_RelevancePropagation):
    """Layer-wise relevance propagation: epsilon for dense, alpha2-beta1 for convolutions, flat for the first layer.

    Attributes:
        epsilon: Stabilizer of the denominators of dense layers.
    """

    paper: ClassVar[str] = "Bach et al. 2015; Kohlbrenner et al. 2020"
    default_map_kind: ClassVar[MapKind] = "attribution"
    kind: Literal["lrp_epsilon_alpha2_beta1_flat"] = "lrp_epsilon_alpha2_beta1_flat"
    epsilon: float = Field(default=1e-6, gt=0, le=1)
