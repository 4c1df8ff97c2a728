"""Control: a map that knows nothing of the model."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need


@final
class Random(ExplainerContract):
    """Control: independent standard normal noise that knows nothing of the model."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "control"
    default_map_kind: ClassVar[MapKind] = "region"
    is_control: ClassVar[bool] = True
    kind: Literal["random"] = "random"

    @property
    def stochastic(self) -> bool:
        """Always: it is nothing but its draw."""
        return True
