"""By what pixels are ordered: the kind of every map, the names of sub-cases, requests that make no sense."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

import reference
from auditcore.contracts.checks import (
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    RankingCheck,
    RoadCheck,
)
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    InputXGradient,
    NoiseTunnel,
    Precomputed,
    Random,
    Rise,
    default_explainers,
)
from auditcore.contracts.explainers.noise_tunnel import Tunneled
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.contracts.ranking_orders import ordered_maps, orders_of, ranked_variant
from auditcore.errors import InvalidRequest

RANKING: tuple[type[RankingCheck], ...] = (
    DeletionCheck,
    EddaCheck,
    PixelFlippingCheck,
    InsertionDeletionCheck,
    RoadCheck,
)
MAPS = "sha256:" + "0" * 64
DEFINED = [
    one for one in (*default_explainers(), Precomputed(maps=MAPS)) if one.kind in reference.SIZED | reference.SIGNED
]
"""Explainers of which the definitions name the order."""


@pytest.mark.parametrize("explainer", [*DEFINED, NoiseTunnel()], ids=lambda explainer: explainer.kind)
def test_auto_takes_the_order_of_the_definitions(explainer: Explainer) -> None:
    assert {one.kind for one in DEFINED} == reference.SIZED | reference.SIGNED
    kind = "gradient" if isinstance(explainer, NoiseTunnel) else explainer.kind
    assert orders_of("auto", explainer) == (reference.order_of("auto", kind),)
    assert orders_of("signed", explainer) == ("signed",)
    assert orders_of("magnitude", explainer) == ("magnitude",)
    assert orders_of("both", explainer) == ("signed", "magnitude")


@pytest.mark.parametrize("method", [one() for one in get_args(get_args(Tunneled)[0])], ids=lambda method: method.kind)
@pytest.mark.parametrize("aggregate", ["smoothgrad", "smoothgrad_squared", "vargrad"])
def test_a_noise_tunnel_has_the_kind_of_its_method(method: Tunneled, aggregate: str) -> None:
    tunnel = NoiseTunnel.model_validate({"method": method, "aggregate": aggregate})
    assert tunnel.kind_of_map == method.kind_of_map


def test_uploaded_maps_have_the_kind_that_is_declared() -> None:
    assert Precomputed(maps=MAPS).kind_of_map == "region"
    assert orders_of("auto", Precomputed(maps=MAPS, map_kind="sensitivity")) == ("magnitude",)
    with pytest.raises(ValidationError, match="map_kind"):
        Precomputed.model_validate({"maps": MAPS, "map_kind": "saliency"})


def test_explainers_come_one_after_the_other_with_their_orders() -> None:
    explainers = (Gradient(), GradCam())
    assert list(ordered_maps("auto", explainers)) == [(explainers[0], "magnitude"), (explainers[1], "signed")]
    assert [order for _, order in ordered_maps("both", explainers)] == ["signed", "magnitude"] * 2


@pytest.mark.parametrize("contract", RANKING, ids=lambda contract: contract.__name__)
def test_every_check_that_orders_has_the_choice(contract: type[RankingCheck]) -> None:
    assert contract().rank_by == "auto"
    assert contract(rank_by="both").rank_by == "both"
    with pytest.raises(ValidationError, match="'signed', 'magnitude', 'auto' or 'both'"):
        contract.model_validate({"rank_by": "absolute"})
    with pytest.raises(ValidationError, match="reduce is 'mean', but rank_by 'magnitude' always takes"):
        contract(rank_by="magnitude", reduce="mean")
    # the signed order of `both` and of region maps needs it
    assert contract(rank_by="both", reduce="mean").reduce == contract(reduce="mean").reduce


def test_orders_become_sub_cases_only_where_both_are_reported() -> None:
    assert ranked_variant("auto", "magnitude") is None
    assert ranked_variant("signed", "signed", "top_15") == "top_15"
    assert ranked_variant("both", "signed") == "signed"
    assert ranked_variant("both", "magnitude", "top_15") == "top_15.magnitude"


def test_variants_follow_the_orders() -> None:
    assert DeletionCheck().variants_of("srg") == ()
    assert DeletionCheck(rank_by="both").variants_of("srg") == ("signed", "magnitude")
    assert DeletionCheck(rank_by="both").variants_of("rao_auc") == ()
    assert InsertionDeletionCheck(rank_by="both").variants_of("insertion_zero") == ("signed", "magnitude")
    assert EddaCheck(keep=(0.15, 0.5)).variants_of("imask_flip") == ("top_15", "top_50")
    assert EddaCheck(keep=(0.15, 0.5), rank_by="both").variants_of("imask_flip") == (
        "top_15.signed",
        "top_50.signed",
        "top_15.magnitude",
        "top_50.magnitude",
    )


def test_a_condition_names_the_order_where_both_are_reported() -> None:
    checks = (DeletionCheck(rank_by="both"), PixelFlippingCheck(rank_by="magnitude"))
    plan = AuditPlan(explainers=(InputXGradient(), Rise(), Random()), checks=checks)

    def condition(check: str, metric: str, variant: str | None) -> Condition:
        return Condition(check=check, explainer="rise", metric=metric, variant=variant, at_least=0)

    fitting = (
        condition("deletion", "srg", "magnitude"),
        condition("deletion", "rao_auc", None),
        condition("pixel_flipping", "pixel_flipping_aoc", None),
    )
    validate_policy(fitting, plan)
    with pytest.raises(InvalidRequest, match=r"variant null is not part of this audit; use one of: signed, magnitude"):
        validate_policy((condition("deletion", "srg", None),), plan)
    with pytest.raises(InvalidRequest, match="use one of: null"):
        validate_policy((condition("deletion", "rao_auc", "signed"),), plan)
