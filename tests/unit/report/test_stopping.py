"""What a prefix of the images says about a policy, on made-up values."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_up_audits as made_up
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.policy import Condition, Row, questions_of
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.report.assemble import assemble
from auditcore.report.junit import render_junit
from auditcore.report.page.html import render_html
from auditcore.report.stopping import Conclusion, image_order, observe

IMAGES = 100
PLAN = made_up.PLAN
Values = Sequence[float | None]


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": 0.0}
    return Condition.model_validate(fields | changes)


def request(*policy: Condition, models: Sequence[str] = (), **rule: Any) -> AuditRequest:
    return AuditRequest(
        model=None if models else DemoModel(),
        models=tuple(NamedModel(name=name, model=DemoModel()) for name in models),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=PLAN,
        policy=policy,
        stop=Conclusive(**rule),
    )


def draw(mean: float, seed: int = 0, count: int = IMAGES) -> list[float | None]:
    """Values in [-1, 1] around a mean."""
    return np.clip(np.random.default_rng(seed).normal(mean, 0.2, count), -1, 1).round(5).tolist()


def shards(values: Values, *, model: str | None = None, rule: Conclusive | None = None, **changes: Any) -> list[Any]:
    """A shard for each look, over all images, of one metric."""
    order = image_order(PLAN.seed, len(values))
    found, start = [], 0
    for look in looks(len(values), (rule or Conclusive()).first_look):
        indices = sorted(order[start:look])
        row = made_up.row("gradient", [values[index] for index in indices], **changes)
        found.append(made_up.shard(model, {index: [1] for index in indices}, row))
        start = look
    return found


def rows(asked: AuditRequest) -> frozenset[Row]:
    names = [name for name, _ in asked.references if name is not None]
    return frozenset(question.row for question in questions_of(asked.policy, PLAN, names))


def conclude(asked: AuditRequest, results: Sequence[ShardResult], images: int = IMAGES) -> Conclusion:
    observations = [observe(rows(asked), result) for result in results]
    return Conclusion(asked, PLAN, images=images, observations=observations)


def report(asked: AuditRequest, results: Sequence[ShardResult], images: int = IMAGES) -> AuditReport:
    return assemble(
        audit_id="a", request=asked, plan=PLAN, results=results, shared={}, attempts=len(results),
        started_at=None, finished_at=None, image_count=images,
    )  # fmt: skip


@given(seed=st.integers(0, 2**53 - 1), images=st.integers(1, 300))
def test_the_order_is_a_permutation_that_follows_from_seed_and_count(seed: int, images: int) -> None:
    order = image_order(seed, images)
    assert sorted(order) == list(range(images))
    assert image_order(seed, images) == order


def test_every_image_is_as_likely_as_any_other_to_come_first() -> None:
    firsts = [image_order(seed, 5)[0] for seed in range(2000)]
    assert np.bincount(firsts).tolist() == pytest.approx([400] * 5, abs=80)


def test_a_clear_case_ends_early_and_judges_as_all_images_would() -> None:
    values = draw(0.4)
    asked = request(condition(), condition(at_least=0.9), condition(at_least=None, at_most=0.1, severity="warn"))
    found = report(asked, shards(values))
    whole = report(asked.model_copy(update={"stop": None}), shards(values))
    assert found.stopping is not None
    assert found.stopping.stopped_early
    assert found.stopping.images_used < IMAGES / 2
    assert [one.status for one in found.conditions] == ["passed", "failed", "warned"]
    assert [one.status for one in found.conditions] == [one.status for one in whole.conditions]
    assert found.verdict == whole.verdict == "fail"
    assert whole.stopping is None
    assert "anytime_ci" not in whole.conditions[0].model_dump()
    for one, decision in zip(found.conditions, found.stopping.decisions, strict=True):
        assert decision.decided_at is not None
        assert decision.decided_at <= found.stopping.images_used
        assert one.anytime_ci == decision.interval
        low, high = decision.interval
        assert low is not None
        assert high is not None
        assert low < 0.4 < high
        assert not low <= one.threshold <= high
        assert f"decided after {decision.decided_at} images" in one.message
        assert f"confidence sequence [{low:.4g}, {high:.4g}]" in one.message


def test_only_the_images_used_are_in_the_report() -> None:
    found = report(request(condition()), shards(draw(0.4)))
    assert found.stopping is not None
    used = found.stopping.images_used
    order = image_order(PLAN.seed, IMAGES)
    assert [item.index for item in found.images.items] == sorted(order[:used])
    assert (found.images.count, found.images.used, found.images.not_examined) == (IMAGES, used, IMAGES - used)
    assert found.images.excluded == ()
    assert found.results[0].n == used
    assert found.manifest.shards == found.stopping.looks == used // 8


@settings(max_examples=20)
@given(mean=st.sampled_from([-0.3, 0.0, 0.05, 0.2]), seed=st.integers(0, 50), chance=st.randoms())
def test_neither_scheduling_nor_later_results_change_it(mean: float, seed: int, chance: random.Random) -> None:
    asked, results = request(condition()), shards(draw(mean, seed))
    end = conclude(asked, results).stop_at
    # whatever is done by now, the end is this one or not yet known
    some = chance.sample(results, chance.randint(1, len(results)))
    assert conclude(asked, some).stop_at in {end, None}
    needed = [result for result in results if end is None or result.images[0].index in conclude(asked, results).used()]
    chance.shuffle(needed)
    assert conclude(asked, needed).stop_at == end
    # shards half as large, some of them done twice
    halves = [half for result in needed for half in _halves(result)]
    assert conclude(asked, [*halves, *halves[:3]]).stop_at == end


def _halves(result: ShardResult) -> list[ShardResult]:
    (row,) = result.measurements
    middle = len(row.values) // 2
    parts = [slice(0, middle), slice(middle, None)]
    return [
        result.model_copy(
            update={
                "images": result.images[part],
                "measurements": (row.model_copy(update={"values": row.values[part]}),),
            }
        )
        for part in parts
        if result.images[part]
    ]


def test_a_missing_shard_hides_all_that_come_after_it() -> None:
    asked, results = request(condition()), shards(draw(0.4))
    assert conclude(asked, results[:5]).stop_at is not None
    assert conclude(asked, [results[0], *results[2:]]).stop_at is None


def test_nothing_ends_before_a_look_even_if_all_is_decided() -> None:
    every_8, every_40 = request(condition()), request(condition(), first_look=40)
    results = shards(draw(0.4))
    assert conclude(every_8, results[:2]).stop_at == 16
    assert conclude(every_40, results[:2]).stop_at is None
    assert conclude(every_40, results[:5]).stop_at == 40


def test_an_open_condition_is_judged_by_all_images() -> None:
    values = draw(0.0)
    mean = float(np.mean([value for value in values if value is not None]))
    asked = request(condition(at_least=mean - 1e-4), condition(id="far", at_least=-0.5))
    found = report(asked, shards(values))
    assert found.stopping is not None
    assert not found.stopping.stopped_early
    assert found.stopping.images_used == found.images.used == IMAGES
    assert "condition 0" in found.stopping.reason or "only after the last look" in found.stopping.reason
    # by the interval of all images, as without a rule
    assert [one.status for one in found.conditions] == ["inconclusive", "vacuous"]
    assert found.conditions[0].message.startswith("95 % interval [")
    assert found.images.not_examined == 0
    low, high = found.conditions[0].anytime_ci or (None, None)
    assert low is not None
    assert high is not None
    # the batch is known, all images like these are not
    assert low < mean - 0.01
    assert mean + 0.01 < high


def test_a_metric_without_bounds_takes_all_images() -> None:
    values = [5.0, 5.5] * (IMAGES // 2)
    sweep = {"check": "sweep", "metric": "s_pearson", "variant": "rotate"}
    asked = request(condition(id="ratio", at_least=1.0, **sweep))
    found = report(asked, shards(values, unit="ratio", **sweep))
    assert found.stopping is not None
    assert found.stopping.reason == (
        "Used all 100 images: condition ratio is on a metric without bounds, which only all images can decide."
    )
    assert found.stopping.decisions[0].bounds == found.stopping.decisions[0].interval == (None, None)
    assert found.conditions[0].status == "passed"


@pytest.mark.parametrize(("at_most", "early"), [(1.0, True), (9.0, False)])
def test_a_metric_with_one_bound_is_decided_on_one_side(at_most: float, *, early: bool) -> None:
    # that the mean of something positive is above 1 can be known early; that it is below 9 cannot
    values: list[float | None] = [4.0, 5.0] * (IMAGES // 2)
    sweep = {"check": "sweep", "metric": "s_top_k", "variant": "rotate"}
    asked = request(condition(at_least=None, at_most=at_most, **sweep))
    found = report(asked, shards(values, unit="ratio", **sweep))
    assert found.stopping is not None
    assert found.stopping.stopped_early is early
    assert found.conditions[0].status == ("failed" if early else "passed")
    assert found.stopping.decisions[0].bounds == (0, None)


def test_a_bound_that_a_value_violates_is_not_used() -> None:
    values = draw(0.4)
    assert conclude(request(condition()), shards(values)).stop_at is not None
    values[image_order(PLAN.seed, IMAGES)[0]] = -3.0
    found = report(request(condition()), shards(values))
    assert found.stopping is not None
    assert found.stopping.decisions[0].bounds == (None, 1)
    assert not found.stopping.stopped_early


def test_images_without_a_value_are_left_out_of_the_mean_and_none_decides_nothing() -> None:
    sparse = [value if index % 2 else None for index, value in enumerate(draw(0.4))]
    found = report(request(condition(at_least=0.1)), shards(sparse))
    assert found.stopping is not None
    assert found.stopping.stopped_early
    assert found.verdict == "pass"
    assert found.results[0].n < found.stopping.images_used
    empty = report(request(condition(at_least=0.1), condition(at_least=-1.0)), shards([None] * IMAGES))
    assert empty.stopping is not None
    assert not empty.stopping.stopped_early
    assert empty.verdict == "inconclusive"


def test_a_threshold_at_the_bound_itself_is_met_by_the_first_value() -> None:
    found = report(request(condition(at_least=-1.0)), shards([-1.0] * IMAGES))
    assert found.stopping is not None
    assert (found.stopping.decisions[0].decided_at, found.stopping.decisions[0].decided) == (1, "met")


@pytest.mark.parametrize(("least", "end"), [(8, 16), (17, 24), (24, 24), (33, 40)])
def test_nothing_ends_before_enough_images_have_a_value(least: int, end: int) -> None:
    assert conclude(request(condition(min_images=least)), shards(draw(0.4))).stop_at == end
    # a third of the images has no value
    gaps = [None if index % 3 == 0 else value for index, value in enumerate(draw(0.4))]
    found = conclude(request(condition(min_images=least)), shards(gaps)).stop_at
    assert found is not None
    order = image_order(PLAN.seed, IMAGES)
    assert sum(index % 3 != 0 for index in order[:found]) >= least


def test_a_condition_without_enough_images_takes_all_and_is_inconclusive() -> None:
    found = report(request(condition(id="many", min_images=101)), shards(draw(0.4)))
    assert found.stopping is not None
    assert not found.stopping.stopped_early
    assert found.stopping.decisions[0].decided == "met"
    assert found.stopping.reason == "Used all 100 images: condition many has too few images with a value."
    assert found.verdict == "inconclusive"
    sparse = [value if index % 3 == 0 else None for index, value in enumerate(draw(0.4))]
    mostly = report(request(condition(id="gaps")), shards(sparse))
    assert mostly.stopping is not None
    assert mostly.stopping.images_used == IMAGES
    assert mostly.conditions[0].message.startswith("most images have no value, 66 of 100; ")


def test_an_audit_with_copies_among_the_images_seen_does_not_end_early() -> None:
    values, (first, second, *_) = draw(0.4), image_order(PLAN.seed, IMAGES)
    values[second] = values[first]
    asked = request(condition())
    copied = [
        result.model_copy(
            update={
                "images": tuple(
                    record.model_copy(update={"digest": made_up.digest(first)}) if record.index == second else record
                    for record in result.images
                )
            }
        )
        for result in shards(values)
    ]
    assert conclude(asked, shards(values)).stop_at is not None
    found = report(asked, copied)
    assert found.stopping is not None
    assert found.stopping.images_used == IMAGES
    assert "some images are copies of others" in found.stopping.reason
    assert (found.verdict, found.results[0].n) == ("pass", IMAGES - 1)


def test_noise_in_a_small_batch_passes_no_more_often_than_it_may() -> None:
    # that a batch of 40 has a mean above 0 is often known before its end, and says nothing of other images
    asked = request(condition(), alpha=0.05)
    passed = 0
    for seed in range(200):
        values = np.random.default_rng(seed).choice([-1.0, 1.0], 40).tolist()
        found = conclude(asked, shards(values), images=40)
        passed += found.stop_at is not None and found.describe().decisions[0].decided == "met"
    # 5 % of 200 are 10, give or take 3; by the sequence of the batch only, 29 do
    assert passed <= 13


def test_every_condition_of_every_model_shares_the_error_rate() -> None:
    asked = request(condition(), condition(model="one"), models=("one", "two"), alpha=0.06)
    results = [*shards(draw(0.4), model="one"), *shards(draw(0.3, 1), model="two")]
    found = report(asked, results)
    assert found.stopping is not None
    assert [(one.condition, one.model) for one in found.stopping.decisions] == [
        ("0", "one"),
        ("0", "two"),
        ("1", "one"),
    ]
    assert found.stopping.alpha_each == pytest.approx(0.02)
    assert [(one.id, one.model, one.status) for one in found.conditions] == [
        ("0", "one", "passed"),
        ("0", "two", "passed"),
        ("1", "one", "passed"),
    ]
    # a model that lags behind keeps the audit waiting
    lagging = [*shards(draw(0.4), model="one"), *shards(draw(0.3, 1), model="two")[:1]]
    assert conclude(asked, lagging).stop_at is None


def test_more_conditions_need_more_images() -> None:
    values = draw(0.15)
    ends = [conclude(request(*[condition()] * count), shards(values)).stop_at or IMAGES for count in (1, 50)]
    assert ends[0] < ends[1]


@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_wrong_verdicts_are_rarer_than_alpha_over_random_orders(alpha: float) -> None:
    values = [1.0, -1.0] * 20
    asked = request(condition(at_least=0.001), alpha=alpha)
    row = made_up.row("gradient", values)
    observations = [observe(rows(asked), made_up.shard(None, {index: [1] for index in range(40)}, row))]
    early = []
    for seed in range(400):
        plan = PLAN.model_copy(update={"seed": seed})
        found = Conclusion(asked, plan, images=40, observations=observations)
        if found.stop_at is not None:
            early.append(found.describe().decisions[0].decided)
    assert early.count("met") <= alpha * 400
    # looking does decide, so that there is something to be wrong about
    assert alpha < 0.1 or early.count("met") > 0


def test_renderers_show_it_in_one_sentence() -> None:
    found = report(request(condition()), shards(draw(0.4)))
    assert found.stopping is not None
    sentence = (
        f"Stopped after {found.stopping.images_used} of 100 images: every condition was decided at error rate 5 %."
    )
    assert found.stopping.reason == sentence
    page = render_html(found)
    assert sentence in page
    assert "confidence sequence:" in page
    assert f'<property name="stopping" value="{sentence}" />' in render_junit(found)
    values: Mapping[str, Any] = found.model_dump(mode="json")
    assert AuditReport.model_validate(values) == found
