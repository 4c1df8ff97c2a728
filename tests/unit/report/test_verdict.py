"""From results and a policy to a verdict: intervals and thresholds, too little evidence, severities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_up_audits as made_up
from auditcore.contracts.augmentations import Hue
from auditcore.contracts.checks import Change, SensitivityCheck, SsimSweepCheck
from auditcore.contracts.policy import Condition, Question
from auditcore.contracts.report import AuditReport, ConditionOutcome, Result
from auditcore.report.conditions import Findings, Judged, judge_conditions
from auditcore.report.verdict import count, verdict

PLAN = made_up.PLAN.model_copy(
    update={
        "checks": (
            *made_up.PLAN.checks,
            SsimSweepCheck(name="changes", changes=(Change(augmentation=Hue(), values=(30.0,)),)),
            SensitivityCheck(name="noise"),
        )
    }
)


SWEEP = {"check": "sweep", "metric": "s_pearson", "variant": "rotate"}
"""A result for which no random order is known."""


def condition(**changes: Any) -> Condition:
    fields = {"id": "mine", "check": "deletion", "explainer": "gradient", "metric": "srg"}
    return Condition.model_validate(fields | changes)


def result(**changes: Any) -> Result:
    fields = {
        "check": "deletion", "explainer": "gradient", "metric": "srg", "variant": None, "unit": "probability",
        "higher_is_better": True, "n": 30, "n_not_applicable": 0, "mean": 0.5, "std": 0.2, "sem": 0.03,
        "ci": (0.4, 0.6), "per_image": (0.5,), "reasons": {},
    }  # fmt: skip
    return Result.model_validate(fields | changes)


def judged(asked: Condition, *rows: Result, **options: Any) -> Judged:
    question = Question(0, asked, asked.model, (asked.check, asked.explainer, asked.metric, asked.variant))
    results = {(row.model, (row.check, row.explainer, row.metric, row.variant)): row for row in rows}
    (found,) = judge_conditions((question,), Findings(plan=PLAN, results=results, **options))
    return found


def judge(asked: Condition, *rows: Result, **options: Any) -> ConditionOutcome:
    return judged(asked, *rows, **options).outcome


@pytest.mark.parametrize(
    ("threshold", "status", "relation"),
    [
        ({"at_least": 0.4}, "passed", "is at least 0.4"),
        ({"at_least": 0.41}, "inconclusive", "contains the threshold 0.41, so more images are needed to decide"),
        ({"at_least": 0.6}, "inconclusive", "contains the threshold 0.6, so more images are needed to decide"),
        ({"at_least": 0.61}, "failed", "is below 0.61"),
        ({"at_most": 0.6}, "passed", "is at most 0.6"),
        ({"at_most": 0.59}, "inconclusive", "contains the threshold 0.59, so more images are needed to decide"),
        ({"at_most": 0.39}, "failed", "is above 0.39"),
    ],
)
def test_the_unfavorable_end_of_the_interval_decides(threshold: dict[str, float], status: str, relation: str) -> None:
    found = judge(condition(**SWEEP, **threshold), result(**SWEEP))
    assert found.status == status
    assert found.message == f"95 % interval [0.4, 0.6] of the mean over 30 images {relation}"
    assert (found.observed, found.ci, found.n, found.min_images) == (0.5, (0.4, 0.6), 30, 8)
    advice = judge(condition(severity="warn", **SWEEP, **threshold), result(**SWEEP))
    assert advice.status == ("warned" if status == "failed" else status)


@pytest.mark.parametrize(
    ("threshold", "status", "relation"),
    [
        ({"at_least": 0.5}, "passed", "is at least"), ({"at_least": 0.51}, "failed", "is below"),
        ({"at_most": 0.5}, "passed", "is at most"), ({"at_most": 0.49}, "failed", "is above"),
        ({"at_most": 0.49, "severity": "warn"}, "warned", "is above"),
    ],
)  # fmt: skip
def test_the_mean_decides_with_statistic_mean(threshold: dict[str, Any], status: str, relation: str) -> None:
    found = judge(condition(statistic="mean", **SWEEP, **threshold), result(**SWEEP))
    assert (found.statistic, found.status) == ("mean", status)
    limit = threshold.get("at_least", threshold.get("at_most"))
    assert found.message == f"mean 0.5 over 30 images {relation} {limit:g}; 95 % interval [0.4, 0.6]"


TOO_LITTLE: list[tuple[dict[str, Any], str]] = [
    ({"n": 7}, "only 7 images of the 8 that `min_images` requires have a value"),
    ({"n": 1, "ci": None, "ci_reason": "x"}, "only 1 image of the 8 that `min_images` requires has a value"),
    ({"n": 30, "n_not_applicable": 31}, "most images have no value, 31 of 61"),
    ({"ci": None, "ci_reason": "all 30 values are equal"}, "the mean has no interval: all 30 values are equal"),
]


@pytest.mark.parametrize(("changes", "reason"), TOO_LITTLE)
@pytest.mark.parametrize("statistic", ["ci", "mean"])
def test_too_little_evidence_never_passes(changes: dict[str, Any], reason: str, statistic: str) -> None:
    found = judge(condition(at_least=0.0, statistic=statistic), result(**changes))
    assert found.status == "inconclusive"
    assert found.message.startswith(f"{reason}; ")
    images = f"{found.n} image{'' if found.n == 1 else 's'}"
    assert f"over {images}" in found.message
    assert verdict((judged(condition(at_least=0.0, statistic=statistic), result(**changes)),))[0] == "inconclusive"


@pytest.mark.parametrize(("changes", "reason"), TOO_LITTLE)
def test_a_miss_needs_evidence_too_unless_the_mean_decides(changes: dict[str, Any], reason: str) -> None:
    by_interval, by_mean = (
        judge(condition(at_least=0.9, statistic=statistic), result(**changes)) for statistic in ("ci", "mean")
    )
    assert by_interval.status == "inconclusive"
    assert by_interval.message.startswith(reason)
    assert by_mean.status == "failed"


def test_the_condition_sets_how_many_images_are_enough() -> None:
    for n, least, status in ((7, 7, "passed"), (29, 30, "inconclusive"), (30, 30, "passed")):
        assert judge(condition(at_least=0.0, min_images=least), result(n=n)).status == status
    # half of the images without a value are not most of them
    assert judge(condition(at_least=0.0), result(n=30, n_not_applicable=30)).status == "passed"


def test_a_condition_is_judged_by_its_own_row() -> None:
    rows = [
        result(**change)
        for change in (
            {"variant": "hue", "mean": 0.1}, {"explainer": "random", "mean": 0.2}, {"check": "other", "mean": 0.3},
            {"metric": "lerf_auc", "mean": 0.4}, {},
        )
    ]  # fmt: skip
    asked = condition(at_least=0.0)
    assert judge(asked, *rows).observed == 0.5
    missing = judge(asked, *rows[:-1])
    assert (missing.status, missing.n, missing.ci) == ("not_applicable", 0, None)


def test_a_condition_without_a_value_repeats_a_few_reasons_of_many() -> None:
    reasons = {image: f"class {image} is not predicted" for image in range(9)}
    empty = result(mean=None, ci=None, n=0, n_not_applicable=9, reasons=reasons)
    message = judge(condition(at_least=0.0), empty).message
    assert message.startswith("no image has a value: class 0 is not predicted; class 1")
    assert message.endswith("; and 6 more")


# --- maps that ignore the image -------------------------------------------------------------------


@pytest.mark.parametrize("check", ["sweep", "changes", "noise"])
def test_stability_of_a_map_that_ignores_the_image_never_passes(check: str) -> None:
    row = result(check=check)
    asked = condition(check=check, at_least=0.3)
    assert judge(asked, row).status == "passed"
    for statistic in ("ci", "mean"):
        found = judge(
            condition(check=check, at_least=0.3, statistic=statistic), row, image_independent={(None, "gradient")}
        )
        assert found.status == "inconclusive"
        assert found.message.startswith("the map does not depend on the image, so its stability says nothing; ")
        assert "0.3" in found.message
    # a miss stays a miss, and what was open stays open
    others = {(None, "gradient")}
    assert judge(condition(check=check, at_least=0.7), row, image_independent=others).status == "failed"
    open_ = judge(condition(check=check, at_least=0.5), row, image_independent=others)
    assert (open_.status, "contains the threshold" in open_.message) == ("inconclusive", True)


def test_only_stability_of_that_explainer_on_that_model_is_void() -> None:
    void = {("one", "gradient")}
    assert judge(condition(at_least=0.3), result(), image_independent={(None, "gradient")}).status == "passed"
    for explainer, model, status in (
        ("gradient", "one", "inconclusive"),
        ("gradient", "two", "passed"),
        ("grad_cam", "one", "passed"),
    ):
        row = result(check="sweep", explainer=explainer, model=model)
        asked = condition(check="sweep", explainer=explainer, model=model, at_least=0.3)
        assert judge(asked, row, image_independent=void).status == status
    of_model = condition(check="sweep", explainer=None, metric="probability_score", at_least=0.3)
    row = result(check="sweep", explainer=None, metric="probability_score")
    assert judge(of_model, row, image_independent={(None, "gradient")}).status == "passed"


# --- a result without any value -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "status", "why"),
    [
        ({}, "not_applicable", ""),
        ({"on_not_applicable": "inconclusive"}, "not_applicable", ""),
        ({"on_not_applicable": "skip"}, "skipped", "; `on_not_applicable` is `skip`, so the condition does not count"),
        ({"on_not_applicable": "warn"}, "warned", "; `on_not_applicable` is `warn`, so this is a warning"),
        ({"on_not_applicable": "fail"}, "failed", "; `on_not_applicable` is `fail`, so this counts as a miss"),
        (
            {"on_not_applicable": "fail", "severity": "warn"},
            "warned",
            "; `on_not_applicable` is `fail`, so this counts as a miss",
        ),
    ],
)
def test_the_condition_says_what_a_result_without_a_value_means(
    settings: dict[str, str], status: str, why: str
) -> None:
    asked = condition(at_least=0.0, **settings)
    for row in ((), (result(mean=None, ci=None, n=0, n_not_applicable=9, reasons={}),)):
        found = judge(asked, *row)
        assert (found.status, found.n) == (status, 0)
        assert found.message == f"no image has a value{why}"
    assert judge(asked, result()).status == "passed"


def test_the_default_leaves_digests_of_older_requests() -> None:
    assert "on_not_applicable" not in condition(at_least=0.0).model_dump()
    assert condition(at_least=0.0, on_not_applicable="skip").model_dump()["on_not_applicable"] == "skip"


# --- the verdict ----------------------------------------------------------------------------------

PASSED, FAILED, WARNED = ("passed", "fail"), ("failed", "fail"), ("warned", "warn")
VACUOUS, SKIPPED, OPEN = ("vacuous", "fail"), ("skipped", "fail"), ("inconclusive", "fail")


def conditions(*found: tuple[str, str], **shown: bool) -> list[Judged]:
    """Outcomes of a policy on maps; those that passed show that a map is neither random nor blind to the model."""
    one = judged(condition(at_least=0.0), result())
    return [
        Judged(
            outcome=one.outcome.model_copy(update={"id": f"c{number}", "status": status, "severity": severity}),
            of_maps=shown.get("of_maps", True),
            refutes_random=status == "passed" and shown.get("refutes_random", True),
            refutes_blind=status == "passed" and shown.get("refutes_blind", True),
        )
        for number, (status, severity) in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("found", "expected", "reason"),
    [
        ((), "not_evaluated", "The request has no policy."),
        ((PASSED, ("passed", "warn")), "pass", "2 of 2 conditions passed."),
        ((PASSED, WARNED), "warn", "No condition failed, but 1 of 2 conditions led to a warning: c1 of gradient."),
        # a warning for want of a value may have the severity `fail`
        (
            (PASSED, ("warned", "fail")),
            "warn",
            "No condition failed, but 1 of 2 conditions led to a warning: c1 of gradient.",
        ),
        (
            (WARNED, OPEN),
            "inconclusive",
            "No condition failed, but 1 of 2 conditions could not be decided: c1 of gradient.",
        ),
        (
            (PASSED, ("not_applicable", "fail")),
            "inconclusive",
            "No condition failed, but 1 of 2 conditions could not be decided: c1 of gradient.",
        ),
        (
            (OPEN, FAILED, ("not_applicable", "fail")),
            "fail",
            "1 of 3 conditions failed: c1 of gradient.",
        ),
        ((FAILED,) * 5, "fail", "5 of 5 conditions failed: c0 of gradient, c1 of gradient, c2 of gradient and 2 more."),
        # advice is a warning at worst
        (
            (PASSED, ("inconclusive", "warn")),
            "warn",
            "No condition failed, but 1 of 2 conditions led to a warning: c1 of gradient.",
        ),
        (
            (PASSED, ("not_applicable", "warn")),
            "warn",
            "No condition failed, but 1 of 2 conditions led to a warning: c1 of gradient.",
        ),
        # what does not count changes nothing
        (
            (PASSED, VACUOUS, SKIPPED),
            "pass",
            (
                "1 of 3 conditions passed. Not counted: c1 of gradient, which a random map meets too; c2 of gradient, "
                "which had no value and may be skipped."
            ),
        ),
        ((FAILED, VACUOUS), "fail", "1 of 2 conditions failed: c0 of gradient."),
        # and cannot make a verdict pass
        (
            (VACUOUS,),
            "inconclusive",
            (
                "No condition failed, but no condition on an explainer passed, so the audit has shown nothing. Not "
                "counted: c0 of gradient, which a random map meets too."
            ),
        ),
        (
            (SKIPPED,),
            "inconclusive",
            (
                "No condition failed, but no condition on an explainer passed, so the audit has shown nothing. Not "
                "counted: c0 of gradient, which had no value and may be skipped."
            ),
        ),
        (
            (WARNED,),
            "inconclusive",
            "No condition failed, but no condition on an explainer passed, so the audit has shown nothing.",
        ),
    ],
)
def test_the_worst_outcome_that_counts_decides(found: tuple[tuple[str, str], ...], expected: str, reason: str) -> None:
    assert verdict(conditions(*found)) == (expected, reason)


def test_a_verdict_needs_a_condition_that_a_map_without_the_model_would_miss() -> None:
    blind = conditions(PASSED, WARNED, refutes_blind=False)
    found, reason = verdict(blind)
    assert found == "inconclusive"
    assert "a map that ignores the model can meet every condition that passed" in reason
    random = conditions(PASSED, refutes_random=False)
    found, reason = verdict(random)
    assert found == "inconclusive"
    assert "a random map meets every condition that passed" in reason
    # together they exclude both
    assert verdict([*blind, *random])[0] == "warn"
    # a passed property of the model says nothing about the maps, but a policy may be about nothing else
    of_model = conditions(PASSED, of_maps=False, refutes_blind=False, refutes_random=False)
    assert verdict([*of_model, *blind])[0] == "inconclusive"
    assert verdict(of_model) == ("pass", "1 of 1 condition passed.")
    assert verdict(conditions(WARNED, of_maps=False))[0] == "inconclusive"


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({}, (True, True, True)),
        ({"check": "sweep", "metric": "s_pearson", "variant": "rotate"}, (True, True, False)),
        ({"check": "sweep", "metric": "probability_score", "variant": "rotate", "explainer": None}, (False,) * 3),
        ({"explainer": "random"}, (False,) * 3),
    ],
)
def test_what_a_passed_condition_shows(row: dict[str, Any], shown: tuple[bool, bool, bool]) -> None:
    found = judged(condition(at_least=0.3, **row), result(**row))
    assert found.outcome.status == "passed"
    assert (found.of_maps, found.refutes_random, found.refutes_blind) == shown
    missed = judged(condition(at_least=0.9, **row), result(**row))
    assert (missed.outcome.status, missed.refutes_random, missed.refutes_blind) == ("failed", False, False)


def test_every_status_is_counted() -> None:
    found = count(
        [
            one.outcome
            for one in conditions(
                PASSED, PASSED, FAILED, WARNED, ("inconclusive", "warn"), ("not_applicable", "fail"), VACUOUS, SKIPPED
            )
        ]
    )
    assert found.model_dump() == {
        "evaluated": 8, "passed": 2, "failed": 1, "warned": 1, "inconclusive": 1, "not_applicable": 1, "vacuous": 1,
        "skipped": 1,
    }  # fmt: skip
    # reports without them keep the bytes they had before these counts existed
    assert {"vacuous", "skipped"}.isdisjoint(count([]).model_dump())


# --- in a report ----------------------------------------------------------------------------------


def report(values: list[float | None], *policy: Condition, **changes: Any) -> AuditReport:
    images = {index: [1] for index in range(len(values))}
    shard = made_up.shard(None, images, made_up.row("gradient", values), **changes)
    return made_up.report(shard, policy=policy)


@pytest.mark.parametrize(
    ("named", "expected"),
    [(None, [("one", "passed"), ("two", "failed")]), ("one", [("one", "passed")]), ("two", [("two", "failed")])],
)
def test_a_condition_is_judged_for_every_model_or_for_the_one_it_names(
    named: str | None, expected: list[tuple[str, str]]
) -> None:
    shards = [
        made_up.shard(name, {i: [1] for i in range(9)}, made_up.row("gradient", [value + i / 100 for i in range(9)]))
        for name, value in (("one", 0.75), ("two", 0.25))
    ]
    found = made_up.report(*shards, policy=(condition(model=named, at_least=0.5),))
    assert [(one.model, one.status) for one in found.conditions] == expected
    assert found.statistics.evaluated == len(expected)
    assert found.verdict == expected[-1][1].removesuffix("ed")


def test_one_value_of_eight_images_is_not_a_pass() -> None:
    found = report([0.9, *[None] * 7], condition(at_least=0.0))
    assert (found.verdict, found.statistics.inconclusive) == ("inconclusive", 1)


def test_thirty_copies_of_one_photo_are_not_a_pass() -> None:
    values: list[float | None] = [0.9] * 30
    found = report(values, condition(at_least=0.0), copies=dict.fromkeys(range(1, 30), 0))
    assert found.verdict == "inconclusive"
    assert found.conditions[0].message.startswith("only 1 image of the 8 that `min_images` requires has a value")
    assert report(values, condition(at_least=0.0)).verdict == "pass"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-20, 20).map(lambda v: v / 20)), min_size=1, max_size=14),
    threshold=st.integers(-20, 20).map(lambda v: v / 20),
    at_least=st.booleans(),
)
def test_what_passes_has_the_interval_and_the_mean_on_the_right_side(
    values: list[float | None], threshold: float, *, at_least: bool
) -> None:
    asked = condition(at_least=threshold) if at_least else condition(at_most=threshold)
    (found,) = report(values, asked).conditions
    sign = 1 if at_least else -1
    if found.status == "passed":
        assert found.ci is not None
        assert found.observed is not None
        assert min(sign * end for end in found.ci) >= sign * threshold
        assert sign * found.observed >= sign * threshold
        assert found.n >= 8
        assert found.n >= sum(value is None for value in values)
    # the opposite condition never passes with it, except at the threshold itself
    opposite = condition(at_most=threshold) if at_least else condition(at_least=threshold)
    (other,) = report(values, opposite).conditions
    if found.status == other.status == "passed":
        assert found.ci == (threshold, threshold)


def test_noise_passes_no_more_often_than_the_interval_errs() -> None:
    # four photos passed 7 of 20 times by the mean; benchmarks/noise.py does the same with real maps
    random = np.random.default_rng(5)
    met = {"ci": 0, "mean": 0}
    for _ in range(400):
        values = random.normal(0, 0.05, 8).round(5).tolist()
        policy = [condition(at_least=0.0, statistic=statistic) for statistic in met]
        for found in report(values, *policy).conditions:
            met[found.statistic] += found.status in {"passed", "vacuous"}
            # the mean of a random order reaches 0 as often, so that such a pass counts for nothing
            assert found.status != ("passed" if found.statistic == "mean" else "vacuous")
    # 2.5 % of 400 are 10, give or take 3
    assert met["ci"] <= 16
    assert met["mean"] > 160
