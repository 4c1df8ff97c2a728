"""Lists of explainers that stay complete: a new explainer joins them with its default parameters."""

from __future__ import annotations

from collections.abc import Iterable

from auditcore.contracts.explainers import Explainer, default_explainers


def on_convolutions(explainers: Iterable[Explainer]) -> tuple[Explainer, ...]:
    """Those that run on networks without attention."""
    return tuple(explainer for explainer in explainers if "attention" not in explainer.needs)


def with_the_others(listed: Iterable[Explainer]) -> tuple[Explainer, ...]:
    """Explainers with chosen parameters, then every other kind that computes maps with its defaults."""
    chosen = tuple(listed)
    kinds = {explainer.kind for explainer in chosen}
    return (*chosen, *(explainer for explainer in default_explainers() if explainer.kind not in kinds))
