"""Orders of pixels or cells in a check: by signed relevance, or by its magnitude."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.explainers.explainer import MapKind

AnyExplainer = TypeVar("AnyExplainer", bound=ExplainerContract)

RankingOrder = Literal["signed", "magnitude"]
"""An order of pixels or cells.

`signed`: by relevance with its sign, so evidence against the class comes last. `magnitude`: by the largest absolute
value over the channels of each pixel, so evidence in either direction comes first.
"""

RankBy = Literal["signed", "magnitude", "auto", "both"]
"""Choices of a plan: one order, the order that suits each kind of map, or both."""

RANK_BY = (
    "Order of pixels or cells. signed: by relevance with its sign, with channels combined by `reduce`. magnitude: by "
    "the largest absolute value over the channels of each pixel, which a check of cells then averages over each cell; "
    "`reduce` is ignored. auto: magnitude for sensitivity maps, whose sign is the direction in which a value would "
    "have to change, and for attribution maps by gradients, whose signs alternate from pixel to pixel and cancel in a "
    "sum; signed for maps of regions, whose sign is evidence for or against the class. Every explainer declares its "
    "kind of map. both: results in both orders, as sub-cases `signed` and `magnitude`."
)

ORDER_OF_KIND: dict[MapKind, RankingOrder] = {
    "sensitivity": "magnitude",
    "attribution": "magnitude",
    "region": "signed",
}
"""Kind of a map -> the order that `auto` chooses; the measurements are in docs/ranking.md."""

BOTH_ORDERS: tuple[RankingOrder, ...] = ("signed", "magnitude")
"""The orders of `both`, in the order of the report."""


def orders_of(rank_by: RankBy, explainer: ExplainerContract) -> tuple[RankingOrder, ...]:
    """Return the orders in which a check uses the pixels or cells of an explainer's maps.

    Args:
        rank_by: The plan's choice.
        explainer: The explainer of the maps.

    Returns:
        One order, or two for `both`.
    """
    if rank_by == "both":
        return BOTH_ORDERS
    return (ORDER_OF_KIND[explainer.kind_of_map] if rank_by == "auto" else rank_by,)


def ordered_maps(rank_by: RankBy, explainers: Iterable[AnyExplainer]) -> Iterator[tuple[AnyExplainer, RankingOrder]]:
    """Yield every explainer with every order in which a check uses its maps, explainer by explainer.

    Args:
        rank_by: The plan's choice.
        explainers: The explainers of the maps.
    """
    for explainer in explainers:
        for order in orders_of(rank_by, explainer):
            yield explainer, order


def ranked_variant(rank_by: RankBy, order: RankingOrder, variant: str | None = None) -> str | None:
    """Return the sub-case of a result in the report, such as `signed` or `top_15.signed`.

    Args:
        rank_by: The plan's choice; only for `both`, orders are sub-cases.
        order: The order that the result is based on.
        variant: Its sub-case without the order; None if it has none.
    """
    if rank_by != "both":
        return variant
    return order if variant is None else f"{variant}.{order}"
