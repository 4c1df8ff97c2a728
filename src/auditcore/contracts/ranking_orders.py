"""By what a check orders pixels or cells: by the sign of their relevance, or by its size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.explainers.explainer import MapKind

AnyExplainer = TypeVar("AnyExplainer", bound=ExplainerContract)

RankingOrder = Literal["signed", "magnitude"]
"""An order of pixels or cells.

`signed`: by relevance with its sign, so that evidence against the class comes last. `magnitude`: by the largest
absolute value over the channels of each pixel, so that what matters in either direction comes first.
"""

RankBy = Literal["signed", "magnitude", "auto", "both"]
"""What a plan may ask for: one order, the one that suits each map, or both."""

RANK_BY = (
    "By what pixels or cells are ordered. signed: by relevance with its sign, channels joined by `reduce`. magnitude: "
    "by the largest absolute value over the channels of each pixel, which a check of cells then averages over each "
    "cell; `reduce` plays no role. auto: magnitude for sensitivity maps, whose sign says in which direction a value "
    "would have to change, and for attribution maps by gradients, whose signs alternate from pixel to pixel and cancel "
    "in a sum; signed for maps of regions, whose sign is evidence for or against the class. Every explainer names its "
    "kind of map. both: results in both orders, as sub-cases `signed` and `magnitude`."
)

ORDER_OF_KIND: dict[MapKind, RankingOrder] = {
    "sensitivity": "magnitude",
    "attribution": "magnitude",
    "region": "signed",
}
"""Kind of a map -> the order that `auto` takes; docs/ranking.md has the measurements behind it."""

BOTH_ORDERS: tuple[RankingOrder, ...] = ("signed", "magnitude")
"""What `both` stands for, in the order of the report."""


def orders_of(rank_by: RankBy, explainer: ExplainerContract) -> tuple[RankingOrder, ...]:
    """The orders in which a check takes the pixels or cells of an explainer's maps.

    Args:
        rank_by: What the plan asks for.
        explainer: Whose maps are ordered.

    Returns:
        One order, or two for `both`.
    """
    if rank_by == "both":
        return BOTH_ORDERS
    return (ORDER_OF_KIND[explainer.kind_of_map] if rank_by == "auto" else rank_by,)


def ordered_maps(rank_by: RankBy, explainers: Iterable[AnyExplainer]) -> Iterator[tuple[AnyExplainer, RankingOrder]]:
    """Every explainer with every order in which a check takes its maps, explainer by explainer.

    Args:
        rank_by: What the plan asks for.
        explainers: Whose maps are ordered.
    """
    for explainer in explainers:
        for order in orders_of(rank_by, explainer):
            yield explainer, order


def ranked_variant(rank_by: RankBy, order: RankingOrder, variant: str | None = None) -> str | None:
    """The sub-case under which a result is listed, such as `signed` or `top_15.signed`.

    Args:
        rank_by: What the plan asks for; only `both` makes sub-cases of orders.
        order: The order that the result rests on.
        variant: Its sub-case apart from that; None if it has none.
    """
    if rank_by != "both":
        return variant
    return order if variant is None else f"{variant}.{order}"
