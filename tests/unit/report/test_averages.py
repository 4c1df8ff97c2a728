"""Averages over explainers in a report, models ranked by them, and table 4 of Won et al. 2025."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

import reference
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.report import AuditReport, ExplainerAverage, ModelRanking, OcclusionCorrelation
from auditcore.contracts.shards import ImageRecord, ShardResult
from auditcore.report import averages
from auditcore.report.page.average_rows import average_blocks, correlation_rows
from auditcore.report.page.html import render_html
from auditcore.report.serialize import report_bytes
from made_up_audits import NAMES, report, row, shard

EXPLAINERS = ("gradient", "input_x_gradient", "grad_cam")
Values = Sequence[Sequence[float | None]]


def model(name: str | None, values: Values, **changes: Any) -> ShardResult:
    """A model that gives the explainers these values."""
    images = {index: [1] for index in range(len(values[0]))}
    return shard(
        name,
        images,
        *(row(explainer, own, **changes) for explainer, own in zip(EXPLAINERS, values, strict=False)),
    )


def random_values(seed: int, images: int = 8) -> list[list[float | None]]:
    # as printed in a report
    return np.random.default_rng(seed).uniform(0, 1, (3, images)).round(4).tolist()


def average(*models: ShardResult) -> ExplainerAverage:
    return report(*models).averages[0]


def ranking(*models: ShardResult) -> ModelRanking:
    (found,) = report(*models).rankings
    return found


# --- averages -------------------------------------------------------------------------------------


def test_it_is_the_mean_over_images_of_the_mean_over_explainers() -> None:
    values = random_values(0)
    found = average(model(None, values))
    own = reference.average_over_explainers(values)
    mean, std, sem = reference.mean_std_sem(own)
    assert (found.model, found.check, found.metric, found.variant) == (None, "deletion", "srg", None)
    assert (found.unit, found.higher_is_better) == ("probability", True)
    assert (found.explainers, found.left_out, found.n, found.n_not_applicable) == (EXPLAINERS, (), 8, 0)
    assert (found.mean, found.std, found.sem) == pytest.approx((mean, std, sem), rel=1e-6)
    assert found.pooled_sem == pytest.approx(reference.pooled_standard_error(values), rel=1e-6)
    assert found.reason is None


def test_its_interval_is_that_of_the_averages_as_if_they_were_one_explainer() -> None:
    values = random_values(1)
    found = report(model(None, values))
    alone = report(model(None, [reference.average_over_explainers(values)]))
    assert found.averages[0].ci == pytest.approx(alone.results[0].ci, rel=1e-6)
    assert found.averages[0].sem == pytest.approx(alone.results[0].sem, rel=1e-6)


def test_only_images_with_a_value_of_every_explainer_count() -> None:
    found = average(model(None, [[0.1, None, 0.3, 0.4], [0.3, 0.5, None, 0.6]]))
    assert (found.n, found.n_not_applicable, found.mean) == (2, 2, pytest.approx((0.2 + 0.5) / 2))


def test_an_explainer_without_any_value_is_left_out_and_named() -> None:
    found = average(model(None, [[0.1, 0.3], [None, None], [0.3, 0.5]]))
    assert (found.explainers, found.left_out) == (("gradient", "grad_cam"), ("input_x_gradient",))
    assert (found.n, found.mean) == (2, pytest.approx(0.3))


def test_models_are_averaged_over_the_same_explainers() -> None:
    found = report(
        model("one", [[0.1, 0.3], [0.3, 0.5], [0.9, 0.9]]), model("two", [[0.2, 0.4], [0.4, 0.6], [None, None]])
    ).averages
    assert [(one.model, one.explainers, one.left_out, one.mean) for one in found] == [
        ("one", ("gradient", "input_x_gradient"), ("grad_cam",), pytest.approx(0.3)),
        ("two", ("gradient", "input_x_gradient"), ("grad_cam",), pytest.approx(0.4)),
    ]


def test_controls_and_properties_of_the_model_are_not_averaged() -> None:
    found = report(
        shard(
            None,
            {0: [1]},
            row("gradient", [0.5]),
            row("random", [0.1]),
            row(None, [0.5], check="sweep", metric="probability_score", variant="rotate"),
            row("gradient", [0.5], check="explainer", metric="conservation", control=True),
        )
    ).averages
    assert [(one.check, one.metric, one.explainers) for one in found] == [("deletion", "srg", ("gradient",))]


@pytest.mark.parametrize(
    ("values", "reason", "explainers"),
    [
        ([[None, None], [None, None]], averages.NO_EXPLAINER, ()),
        ([[0.1, None], [None, 0.2]], averages.NO_COMMON_IMAGE, ("gradient", "input_x_gradient")),
    ],
)
def test_an_average_without_images_is_null_with_a_reason(
    values: Values, reason: str, explainers: tuple[str, ...]
) -> None:
    found = average(model(None, values))
    assert (found.n, found.mean, found.std, found.sem, found.ci, found.pooled_sem) == (0, *[None] * 5)
    assert (found.reason, found.explainers) == (reason, explainers)


def test_explainers_that_no_two_models_share_have_no_average() -> None:
    found = report(model("one", [[0.1], [None]]), model("two", [[None], [0.1]])).averages
    assert [(one.mean, one.reason) for one in found] == [(None, averages.NO_COMMON_EXPLAINER)] * 2


def test_one_image_has_a_mean_and_no_error() -> None:
    found = average(model(None, [[0.2], [0.4]]))
    assert (found.n, found.mean, found.sem, found.ci) == (1, pytest.approx(0.3), None, None)
    # two values of one image are a pool
    assert found.pooled_sem == pytest.approx(0.1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_explainers_does_not_matter(order: tuple[int, ...]) -> None:
    values = random_values(2)
    images = {index: [1] for index in range(8)}

    def made(name: str, order: Sequence[int], values: Values) -> ShardResult:
        return shard(name, images, *(row(EXPLAINERS[place], values[place]) for place in order))

    other = random_values(3)
    found = report(made("one", order, values), made("two", order, other))
    usual = report(made("one", range(3), values), made("two", range(3), other))
    drop = {"explainers"}
    assert [one.model_dump(exclude=drop) for one in (*found.averages, *found.rankings)] == [
        one.model_dump(exclude=drop) for one in (*usual.averages, *usual.rankings)
    ]


def test_the_order_of_images_does_not_matter() -> None:
    order = np.random.default_rng(5).permutation(8)
    one, two = np.array(random_values(2)), np.array(random_values(3))
    found = report(model("one", one.tolist()), model("two", two.tolist()))
    moved = report(model("one", one[:, order].tolist()), model("two", two[:, order].tolist()))
    for a, b in zip(found.averages, moved.averages, strict=True):
        assert (a.n, a.mean, a.std, a.sem, a.pooled_sem) == pytest.approx((b.n, b.mean, b.std, b.sem, b.pooled_sem))
    (first,), (second,) = found.rankings, moved.rankings
    assert (first.order, first.means) == (second.order, second.means)
    assert (first.difference, first.t, first.p_value) == pytest.approx((second.difference, second.t, second.p_value))


# --- best against second --------------------------------------------------------------------------


def averaged(values: Values) -> list[float]:
    return reference.average_over_explainers(values)


def test_the_best_is_tested_against_the_second_image_by_image() -> None:
    values = {name: random_values(seed) for name, seed in zip(NAMES, (4, 5, 6), strict=True)}
    found = ranking(*(model(name, own) for name, own in values.items()))
    own = {name: averaged(tables) for name, tables in values.items()}
    order = sorted(NAMES, key=lambda name: -math.fsum(own[name]))
    best, second = own[order[0]], own[order[1]]
    assert (found.order, found.n, found.explainers) == (tuple(order), 8, EXPLAINERS)
    assert found.means == pytest.approx({name: math.fsum(values) / 8 for name, values in own.items()})
    theirs = stats.ttest_rel(best, second)
    assert (found.t, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-5)
    assert (found.t, found.p_value) == pytest.approx(reference.paired_t_test(best, second), rel=1e-5)
    assert found.difference == pytest.approx(found.means[order[0]] - found.means[order[1]], abs=1e-6)
    assert (found.test, found.reason) == ("paired_t", None)


def test_where_lower_is_better_the_lowest_is_first() -> None:
    found = ranking(
        model("one", [[0.1, 0.2, 0.4]], higher_is_better=False), model("two", [[0.2, 0.4, 0.7]], higher_is_better=False)
    )
    assert (found.order, found.higher_is_better) == (("one", "two"), False)
    assert found.difference is not None
    assert found.difference < 0


def test_a_metric_without_a_better_direction_ranks_nothing() -> None:
    found = report(model("one", [[0.1, 0.2]], higher_is_better=None), model("two", [[0.2, 0.4]], higher_is_better=None))
    assert found.rankings == ()
    assert len(found.averages) == 2


def test_only_images_of_every_model_count_so_that_easy_ones_decide_nothing() -> None:
    found = report(
        model("one", [[0.9, 0.8, 0.2, 0.1, 0.2]]),
        model("two", [[None, None, 0.4, 0.4, 0.3]]),
    )
    assert found.averages[0].mean > found.averages[1].mean  # type: ignore[operator]
    (rank,) = found.rankings
    assert (rank.order, rank.n) == (("two", "one"), 3)
    assert rank.means == pytest.approx({"one": 0.5 / 3, "two": 1.1 / 3}, rel=1e-6)


def test_copies_of_an_image_count_once() -> None:
    one, two = [0.1, 0.4, 0.3, 0.3], [0.2, 0.7, 0.5, 0.5]
    records = tuple(
        ImageRecord(index=index, digest=sha256(bytes([min(index, 2)])), targets=({"target": 1, "probability": 0.5},))
        for index in range(4)
    )
    found = ranking(
        *(model(name, [values]).model_copy(update={"images": records}) for name, values in (("one", one), ("two", two)))
    )
    theirs = stats.ttest_rel(two[:3], one[:3])
    assert (found.n, found.t, found.p_value) == (3, pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))


def test_one_model_is_not_ranked() -> None:
    found = report(model(None, random_values(0)))
    assert (found.rankings, found.occlusion_correlations) == ((), ())
    assert len(found.averages) == 1


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], averages.EQUAL_MODELS),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], averages.EQUAL_DIFFERENCES),
        ([0.1, None, None], [0.2, None, None], averages.ONE_IMAGE),
        ([0.1, None, None], [None, 0.2, 0.3], averages.NO_SHARED_IMAGE),
    ],
)
def test_a_test_that_cannot_be_made_is_null_with_a_reason(
    one: list[float | None], two: list[float | None], reason: str
) -> None:
    found = ranking(model("one", [one]), model("two", [two]))
    assert (found.t, found.p_value, found.reason) == (None, None, reason)


def test_without_two_averages_there_is_nothing_to_test() -> None:
    found = ranking(model("one", [[0.1, 0.2]] * 2), model("two", [[0.1, None], [None, 0.2]]))
    assert (found.order, found.n, found.difference, found.reason) == (("one",), 2, None, averages.ONE_MODEL)
    # no explainer has values on both
    found = ranking(model("one", [[0.1, 0.2]]), model("two", [[None, None]]))
    assert (found.order, found.n, found.means, found.reason) == ((), 0, {}, averages.ONE_MODEL)


def test_a_report_with_undefined_tests_is_strict_json() -> None:
    found = report(model("one", [[0.1, 0.2]]), model("two", [[0.1, 0.2]]))
    text = report_bytes(found)
    assert b"NaN" not in text
    assert AuditReport.model_validate_json(text) == found


# --- table 4 --------------------------------------------------------------------------------------


def deletion(name: str, robustness: Sequence[float | None], *scores: Sequence[float | None]) -> ShardResult:
    """LeRF of explainers and RaO of a model; inter-model deletion is their difference."""
    images = {index: [1] for index in range(len(robustness))}
    rows = []
    for explainer, own in zip(EXPLAINERS, scores, strict=False):
        difference = [None if a is None or b is None else round(a - b, 6) for a, b in zip(own, robustness, strict=True)]
        rows += [
            row(explainer, own, metric="lerf_auc"),
            row(explainer, robustness, metric="rao_auc", higher_is_better=None),
            row(explainer, difference, metric="inter_model_deletion"),
        ]
    return shard(name, images, *rows)


def correlations(*models: ShardResult) -> dict[tuple[str | None, str], OcclusionCorrelation]:
    return {(one.explainer, one.metric): one for one in report(*models).occlusion_correlations}


def test_means_of_models_are_correlated_for_the_average_and_each_explainer() -> None:
    generator = np.random.default_rng(0)
    robustness = generator.uniform(0.1, 0.4, (3, 5)).round(4)
    scores = generator.uniform(0.4, 0.9, (3, 2, 5)).round(4)
    found = correlations(
        *(
            deletion(name, own.tolist(), *table.tolist())
            for name, own, table in zip(NAMES, robustness, scores, strict=True)
        )
    )
    assert list(found) == [
        (explainer, metric)
        for metric in ("lerf_auc", "inter_model_deletion")
        for explainer in (None, "gradient", "input_x_gradient")
    ]
    random_order = robustness.mean(axis=1)
    for place, explainer in enumerate(("gradient", "input_x_gradient")):
        lerf = scores[:, place].mean(axis=1)
        for metric, means in (("lerf_auc", lerf), ("inter_model_deletion", lerf - random_order)):
            expected = reference.pearson_over_models(random_order.tolist(), means.tolist())
            assert found[explainer, metric].pearson == pytest.approx(expected, abs=1e-4)
    average = scores.mean(axis=(1, 2))
    for metric, means in (("lerf_auc", average), ("inter_model_deletion", average - random_order)):
        one = found[None, metric]
        assert one.pearson == pytest.approx(np.corrcoef(random_order, means)[0, 1], abs=1e-4)
        assert (one.check, one.models, one.n, one.reason) == ("deletion", NAMES, 5, None)


def test_images_that_one_model_lacks_are_in_no_mean() -> None:
    robustness, lerf = [0.2, 0.3, 0.1], ([0.4, 0.6, 0.9], [0.5, 0.5, 0.9], [0.8, 0.7, 0.9])
    third = [*lerf[2][:2], None]
    found = correlations(
        deletion("one", robustness, lerf[0]),
        deletion("two", [0.3, 0.3, 0.9], lerf[1]),
        deletion("three", [0.4, 0.5, 0.9], third),
    )
    one = found["gradient", "lerf_auc"]
    assert one.n == 2
    assert one.pearson == pytest.approx(np.corrcoef([0.25, 0.3, 0.45], [0.5, 0.5, 0.75])[0, 1], rel=1e-6)


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ([deletion("one", [0.1], [0.5]), deletion("two", [0.2], [0.6])], averages.FEW_MODELS),
        (
            [deletion("one", [0.1], [0.5]), deletion("two", [0.2], [0.6]), deletion("three", [0.3], [None])],
            averages.FEW_MODELS,
        ),
        (
            [deletion(name, [0.25], [score]) for name, score in zip(NAMES, (0.5, 0.6, 0.7), strict=True)],
            averages.EQUAL_MEANS,
        ),
        (
            [
                deletion("one", [0.1, 0.1], [0.5, None]),
                deletion("two", [0.2, 0.2], [None, 0.6]),
                deletion("three", [0.3, 0.3], [0.5, 0.5]),
            ],
            averages.NO_SHARED_VALUE,
        ),
    ],
)
def test_a_meaningless_correlation_is_null_with_a_reason(models: list[ShardResult], reason: str) -> None:
    found = correlations(*models)
    one = found["gradient", "lerf_auc"]
    assert (one.pearson, one.reason) == (None, reason)


def test_other_checks_have_no_occlusion() -> None:
    found = report(*(model(name, random_values(seed)) for seed, name in enumerate(NAMES)))
    assert found.occlusion_correlations == ()


# --- the page -------------------------------------------------------------------------------------


def test_a_block_has_the_average_of_every_model_and_the_test() -> None:
    found = report(model("one", [[0.1, 0.2, 0.4], [0.3, 0.2, 0.4]]), model("two", [[0.5, 0.9, None], [0.7, 0.7, 0.5]]))
    (block,) = average_blocks(found)
    assert (block.check, block.title, block.arrow, block.headline) == ("deletion", "srg", "↑", True)
    assert (block.explainers, block.left_out) == (("gradient", "input_x_gradient"), ())
    assert [(line.model, line.text, line.found.n) for line in block.lines] == [
        ("one", "0.267 ± 0.067", 3),
        ("two", "0.700 ± 0.100", 2),
    ]
    assert block.ranking is not None
    assert (block.ranking.order, block.ranking.difference, block.ranking.found.n) == ("two > one", "+0.500", 2)
    assert block.ranking.p_value == f"{block.ranking.found.p_value:.2g}"


@pytest.mark.parametrize(("p_value", "shown"), [(0.03125, "0.031"), (1e-30, "< 1e-16"), (0.0, "< 1e-16"), (None, "")])
def test_a_p_value_is_never_printed_as_zero(p_value: float | None, shown: str) -> None:
    found = report(model("one", random_values(0)), model("two", random_values(1)))
    changed = found.rankings[0].model_copy(update={"p_value": p_value})
    (block,) = average_blocks(found.model_copy(update={"rankings": (changed,)}))
    assert block.ranking is not None
    assert block.ranking.p_value == shown


def test_the_page_of_several_models_shows_averages_tests_and_correlations() -> None:
    found = report(
        *(
            deletion(name, [0.1, 0.25], [lerf, 0.5], [0.6, 0.7])
            for name, lerf in zip(NAMES, (0.3, 0.5, 0.6), strict=True)
        )
    )
    page = render_html(found)
    assert "Average over explainers" in page
    # differences of 0.05 and 0: t = 1 with one degree of freedom
    assert "p = 0.5, n = 2" in page
    assert "three &gt; two &gt; one" in page
    assert "Do scores of deletion follow from robustness" in page
    assert page.count(averages.EQUAL_MEANS) == len(found.occlusion_correlations)
    assert [row.of for row in correlation_rows(found)][:3] == [
        "average over explainers",
        "gradient",
        "input_x_gradient",
    ]


def test_the_page_of_one_model_shows_averages_only() -> None:
    page = render_html(report(model(None, [[0.1, 0.3], [0.3, 0.5], [None, None]])))
    assert "Average over explainers" in page
    assert "without grad_cam" in page
    assert "Best against second" not in page
    assert "Do scores of deletion" not in page
