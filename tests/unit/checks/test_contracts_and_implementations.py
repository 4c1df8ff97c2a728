"""What a check's contract says of it, its implementation does."""

from __future__ import annotations

import pytest

from auditcore.checks.registry import CHECKS
from auditcore.contracts.checks import CHECK_CONTRACTS, CheckContract
from every_check import and_every_other_check


def test_every_check_has_an_implementation_and_a_kind_of_its_own() -> None:
    assert list(CHECKS) == list(CHECK_CONTRACTS)
    assert len({contract.model_fields["kind"].default for contract in CHECK_CONTRACTS}) == len(CHECK_CONTRACTS)


@pytest.mark.parametrize("check", and_every_other_check(()), ids=lambda check: check.kind)
def test_what_measures_has_an_implementation_of_the_first_wave(check: CheckContract) -> None:
    implementation = CHECKS[type(check)]
    assert check.needs_measure_wave == (implementation.measure_shared is not None)
    assert check.needs_measure_wave == (implementation.reduce_shared is not None)
    assert check.needs_measure_wave or not check.measures_maps


@pytest.mark.parametrize("check", and_every_other_check(()), ids=lambda check: check.kind)
def test_metrics_that_a_contract_names_are_metrics_of_it(check: CheckContract) -> None:
    named = {*check.headlines, *check.floors_shown, *check.lines, *check.listed_metrics, *check.measured_metrics}
    assert named | ({check.chart_metric, check.flip_rate} - {None}) <= set(check.metrics)
    assert check.headlines
    assert all(pool.members for pool in check.pools.values())


def test_a_check_without_a_price_cannot_be_made() -> None:
    class Unpriced(CheckContract):
        kind: str = "unpriced"

    with pytest.raises(TypeError, match="Can't instantiate abstract class Unpriced"):
        Unpriced()
