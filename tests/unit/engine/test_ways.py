"""Which way of running passes is tried: one whose price the audit ahead wins back."""

from __future__ import annotations

import pytest

from auditcore.contracts.shards import Calibration, Way
from auditcore.contracts.speed import Speed
from auditcore.engine.ways import EXPECTED_GAIN, PRICE_S, Ahead, choose_way, worth_trying
from auditcore.models.classifier import Classifier

CALIBRATION = Calibration(micro_batch=8, forward_per_s=100.0, gradient_per_s=25.0, comparison_per_s=1.0)


def break_even(way: Way) -> float:
    return PRICE_S[way] / EXPECTED_GAIN[way]


def test_seconds_ahead_follow_from_what_was_measured() -> None:
    assert Ahead(forward=200, backward=50).seconds(CALIBRATION) == pytest.approx(200 / 100 + 50 / 25)


def test_short_audits_pay_for_nothing() -> None:
    seconds = 0.99 * min(break_even("graphs"), break_even("compiled"))
    assert worth_trying(seconds, Speed(compile=True), set()) == ()


def test_only_the_cheaper_way_is_worth_a_medium_audit() -> None:
    seconds = (break_even("graphs") + break_even("compiled")) / 2
    cheaper = min(PRICE_S, key=break_even)
    assert worth_trying(seconds, Speed(compile=True), set()) == (cheaper,)


def test_long_audits_compile_if_they_may() -> None:
    seconds = 1.01 * max(break_even("graphs"), break_even("compiled"))
    assert worth_trying(seconds, Speed(compile=True), set()) == ("compiled", "graphs")
    assert worth_trying(seconds, Speed(), set()) == ("graphs",)


def test_an_attempt_is_not_repeated() -> None:
    seconds = 1.01 * max(break_even("graphs"), break_even("compiled"))
    assert worth_trying(seconds, Speed(compile=True), {"graphs"}) == ("compiled",)
    assert worth_trying(seconds, Speed(compile=True), {"graphs", "compiled"}) == ()


def test_on_a_cpu_passes_run_directly(digit_classifier: Classifier) -> None:
    digit_classifier.calibration = CALIBRATION
    choose_way(digit_classifier, Ahead(1e9, 1e9), Speed(compile=True), lambda: 0.0)
    assert digit_classifier.static is None
    assert digit_classifier.calibration.way == "eager"
    digit_classifier.calibration = None
