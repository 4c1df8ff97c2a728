"""The rows, the page and the JUnit document of a report."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import pytest

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.augmentations import Brightness, Hue, Rotate
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.checks import (
    CHECK_OF_KIND,
    AgreementCheck,
    Change,
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import GradCam, Gradient, GuidedBackpropagation, Random
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.report import (
    AuditReport,
    CalibratedInterval,
    Comparison,
    ConditionOutcome,
    Curve,
    ExcludedImage,
    ExplainerLead,
    Manifest,
    MeasureReliability,
    ReportImages,
    ReportModel,
    ReportStatistics,
    Result,
    Slice,
    UsedImage,
)
from auditcore.contracts.shards import CheckCost, Cost, ExplainedClass
from auditcore.report.headlines import (
    SummaryColumn,
    mean_text,
    orders_used,
    small_samples,
    summary_columns,
    summary_rows,
    summary_tables,
)
from auditcore.report.junit import render_junit
from auditcore.report.page.charts import Interval, interval_chart
from auditcore.report.page.content_policy import CONTENT_POLICY, SCRIPT, SCRIPT_SOURCE
from auditcore.report.page.curve_chart import Series, curve_chart
from auditcore.report.page.html import render_html
from auditcore.report.page.scatter import (
    HEIGHT_PX,
    WIDTH_PX,
    Scatter,
    ScatterAxis,
    ScatterPoint,
    scatter_chart,
    scatters,
)
from auditcore.report.page.side_by_side import opponents, reliability_rows, side_by_side
from auditcore.report.page.summary_sections import COLUMNS_ON_A_PAGE
from auditcore.report.parts import class_rows, flip_rows

DIGEST = "sha256:" + "0123456789abcdef" * 4
HOSTILE = "<script>alert('x')</script>\" onload=\"&\x07"


def result(  # one number of one explainer on two images
    check: str, explainer: str | None, metric: str, mean: float | None, variant: str | None = None, **changes: object
) -> Result:
    known = mean is not None
    meaning = METRICS[{"stability": "sweep"}.get(check, check)][metric]
    fields: dict[str, object] = {
        "check": check,
        "explainer": explainer,
        "metric": metric,
        "variant": variant,
        "unit": meaning.unit,
        "higher_is_better": meaning.higher_is_better,
        "n": 2 if known else 0,
        "n_not_applicable": 0 if known else 2,
        "mean": mean,
        "std": 0.1 if known else None,
        "sem": 0.05 if known else None,
        "ci": (mean - 0.1, mean + 0.1) if mean is not None else None,
        "small_sample": True,
        "per_image": (mean, mean),
        "reasons": {} if known else {0: "the map is constant", 2: HOSTILE},
    }
    return Result.model_validate({**fields, **changes})


def outcome(status: str, **changes: object) -> ConditionOutcome:
    fields: dict[str, object] = {
        "id": status,
        "check": "deletion",
        "explainer": "gradient",
        "metric": "inter_model_deletion",
        "variant": None,
        "statistic": "ci",
        "min_images": 8,
        "severity": "warn" if status == "warned" else "fail",
        "comparison": "at_least",
        "threshold": 0.25,
        "observed": 0.2,
        "ci": (0.1, 0.3),
        "n": 9,
        "status": status,
        "message": f"the message of {status}",
    }
    return ConditionOutcome.model_validate({**fields, **changes})


CURVE = Curve(x=(-20, 0, 20), mean=(0.25, 1, None), lo=(0.1, 1, None), hi=(0.4, 1, None))


@pytest.fixture
def report() -> AuditReport:
    """Three explainers, of which one cannot run, a control, gaps, and hostile texts."""
    return AuditReport(
        audit_id="audit-1",
        verdict="fail",
        statistics=ReportStatistics(evaluated=6, passed=1, warned=1, failed=1, inconclusive=2, not_applicable=1),
        model=ReportModel(
            reference=FactoryModel(
                target="package:build", args=(HOSTILE,), weights=Weights(uri="random:0"), preprocessing=Preprocessing()
            ),
            digest=DIGEST,
            classes=10,
            parameters=1234567,
            trained=False,
            preprocessing=Preprocessing(),
        ),
        images=ReportImages(
            count=3,
            used=2,
            excluded=(ExcludedImage(index=1, name=HOSTILE, digest=None, code="undecodable_image", reason=HOSTILE),),
            digest=DIGEST,
            items=tuple(
                UsedImage(index=index, name=None, digest=DIGEST, label=None, target=3, probability=0.5)
                for index in (0, 2)
            ),
        ),
        plan=AuditPlan(
            explainers=(Gradient(), GuidedBackpropagation(), GradCam(name="cam"), Random()),
            checks=(
                SweepCheck(name="stability", augmentations=(Rotate(interval=(-20, 20)),), levels=3),
                DeletionCheck(),
                EddaCheck(keep=(0.15,)),
            ),
        ),
        intervals=(
            CalibratedInterval(
                check="stability", augmentation="rotate", interval=(-20, 20), reached=False, message="never dropped"
            ),
        ),
        not_applicable={"guided_backpropagation": "the model has no rectifier"},
        results=(
            result("stability", None, "probability_score", 0.9, "rotate", curve=CURVE),
            result("stability", "gradient", "pearson_score", 0.4, "rotate", curve=CURVE),
            result("stability", "gradient", "s_pearson", 0.45, "rotate"),
            result("stability", "cam", "s_pearson", None, "rotate"),
            result("stability", "guided_backpropagation", "s_pearson", None, "rotate"),
            result("stability", "random", "s_pearson", 0.99, "rotate"),
            result("deletion", "gradient", "inter_model_deletion", 0.125),
            result("deletion", "cam", "inter_model_deletion", 0.25),
            result("edda", "gradient", "sufficiency", -0.5, "top_15", n=1, sem=None, ci=None),
        ),
        conditions=(
            outcome("passed"),
            outcome("failed", message=f"mean is below {HOSTILE}"),
            outcome("warned", variant="rotate", comparison="at_most"),
            outcome("not_applicable", explainer=None, observed=None, ci=None, n=0),
            outcome("inconclusive"),
            outcome("inconclusive", id="advice", severity="warn"),
        ),
        controls=(result("edda", "random", "sufficiency", -0.75, "top_15"),),
        cost=Cost(forward_images=12345, seconds=4.5),
        manifest=Manifest(
            auditcore_version="0.1.0",
            seed=7,
            preset=None,
            request_digest=DIGEST,
            plan_digest=DIGEST,
            environment={"torch": "2.15"},
            interval="Student's t",
            shards=1,
            attempts=1,
        ),
    )


MODELS = ("first", "second", "third")

CHECKS: tuple[Check, ...] = (
    SweepCheck(augmentations=(Rotate(interval=(-20, 20)), Brightness(interval=(-0.2, 0.2))), levels=3),
    SsimSweepCheck(changes=(Change(augmentation=Rotate(), values=(15.0,)), Change(augmentation=Hue(), values=(30.0,)))),
    DeletionCheck(),
    EddaCheck(),
    PixelFlippingCheck(),
    InsertionDeletionCheck(),
    RoadCheck(),
    SensitivityCheck(),
    InfidelityCheck(),
    LocalizationCheck(),
    RandomizationCheck(),
    ComplexityCheck(),
)


@pytest.fixture
def several(report: AuditReport) -> AuditReport:
    """Three models, every check and metric there is, made up from positions; `cam` cannot run on the second model."""
    plan = report.plan.model_copy(update={"checks": CHECKS})
    assert report.model is not None
    rows: list[Result] = []
    controls: list[Result] = []
    for number, model in enumerate(MODELS):
        for check in CHECKS:
            for position, (metric, meaning) in enumerate(METRICS[check.kind].items()):
                explainers = ("gradient", "cam", "random") if meaning.of_explainer else (None,)
                for place, explainer in enumerate(explainers):
                    if (model, explainer) == ("second", "cam"):
                        continue
                    for variant in check.variants_of(metric) or (None,):
                        mean = 0.1 + 0.2 * ((number + place) % 3) + 0.01 * position
                        curve = CURVE if metric in check.lines else None
                        row = result(check.kind, explainer, metric, mean, variant, model=model, curve=curve)
                        (controls if meaning.control else rows).append(row)
    second = report.model.model_copy(
        update={"name": "second", "trained": True, "digest": DIGEST.replace("0", "f"), "parameters": 7654321}
    )
    return report.model_copy(
        update={
            "model": None,
            "models": (
                report.model.model_copy(update={"name": "first"}),
                second,
                second.model_copy(update={"name": "third"}),
            ),
            "plan": plan,
            "results": tuple(rows),
            "controls": tuple(controls),
            "not_applicable": {f"{model}/guided_backpropagation": "the model has no rectifier" for model in MODELS}
            | {"second/cam": HOSTILE},
            "conditions": tuple(outcome("failed", model=model, message=f"missed by {model}") for model in MODELS),
            "slices": SLICES,
            "comparisons": (
                comparison("second", "first", 0.2),
                comparison("third", "first", -0.05),
                # the other way round: the page shows third minus second
                comparison("second", "third", 0.25),
            ),
            "reliability": RELIABILITY,
            "cost": Cost(
                forward_images=300,
                backward_images=100,
                checks={
                    "originals": CheckCost(forward_images=100, backward_images=100, share=0.5349),
                    "deletion": CheckCost(forward_images=200, share=0.4651),
                },
            ),
        }
    )


def comparison(model: str, against: str, difference: float) -> Comparison:
    return Comparison(
        model=model,
        against=against,
        check="deletion",
        explainer="gradient",
        metric="inter_model_deletion",
        variant=None,
        n=2,
        difference=difference,
        std=0.1,
        ci=(difference - 0.1, difference + 0.15),
    )


def part(name: str, mean: float, n: int, metric: str = "inter_model_deletion", **changes: object) -> Slice:
    fields: dict[str, object] = {
        "part": name,
        "model": "first",
        "check": "deletion",
        "explainer": "gradient",
        "metric": metric,
        "variant": None,
        "n": n,
        "mean": mean,
        "std": 0.1,
        "sem": 0.07,
        "ci": (mean - 0.2, mean + 0.2),
    }
    return Slice.model_validate({**fields, **changes})


SLICES = (
    part("class=3", 0.31, 5),
    part("class=7", 0.07, 4),
    part("class=8", 0.65, 6),
    part("class=3", 0.5, 5, explainer="cam"),
    part("flipped", 0.41, 9, "s_pearson", check="sweep", variant="rotate"),
    part("not_flipped", 0.93, 8, "s_pearson", check="sweep", variant="rotate"),
)

RELIABILITY = (
    MeasureReliability(
        scope="all_models",
        architecture=None,
        models=MODELS,
        n=7,
        check="deletion",
        metric="inter_model_deletion",
        variant=None,
        reliable=False,
        kendall_w=0.62,
        orders={"first": ("gradient", "cam"), "second": ("cam", "gradient"), "third": ("gradient", "cam")},
        discordant=(("gradient", "cam"), ("a", "b"), ("a", "c"), ("b", "c"), ("b", "d")),
    ),
    MeasureReliability(
        scope="all_models",
        architecture=None,
        models=MODELS,
        n=7,
        check="deletion",
        metric="lerf_auc",
        variant=None,
        reliable=True,
        kendall_w=1,
        orders=dict.fromkeys(MODELS, ("cam", "gradient")),
        discordant=(),
    ),
    MeasureReliability(
        scope="all_models",
        architecture=None,
        models=MODELS,
        n=7,
        check="sweep",
        metric="s_pearson",
        variant="rotate",
        reliable=None,
        kendall_w=None,
        orders=dict.fromkeys(MODELS, ()),
        discordant=(),
    ),
)


# --- rows ------------------------------------------------------------------------------------------


def test_columns_follow_the_plan(report: AuditReport) -> None:
    assert [(column.check, column.title) for column in summary_columns(report)] == [
        ("stability", "s_pearson rotate"),
        ("deletion", "inter_model_deletion"),
        ("edda", "sufficiency top_15"),
    ]


def test_one_row_per_explainer_with_gaps_and_reasons(report: AuditReport) -> None:
    rows = summary_rows(report)
    assert [(row.explainer, row.control) for row in rows] == [
        ("gradient", False),
        ("guided_backpropagation", False),
        ("cam", False),
        ("random", True),
    ]
    texts = {row.explainer: [cell.text if cell else None for cell in row.cells] for row in rows}
    assert texts["gradient"] == ["0.450 ± 0.050", "0.125 ± 0.050", "-0.500"]
    assert texts["cam"] == ["-", "0.250 ± 0.050", None]
    assert texts["random"] == ["0.990 ± 0.050", None, "-0.750 ± 0.050"]
    assert rows[1].not_applicable == "the model has no rectifier"
    cell = rows[2].cells[0]
    assert cell is not None
    assert cell.reason is not None
    assert "the map is constant" in cell.reason
    first = rows[0].cells[1]
    assert first is not None
    assert first.interval == "[0.025, 0.225]"


def lead(best: str, second: str, ci: tuple[float, float] | None, **changes: object) -> ExplainerLead:
    fields: dict[str, object] = {
        "check": "deletion", "metric": "inter_model_deletion", "variant": None, "best": best, "second": second,
        "n": 2, "difference": 0.125, "ci": ci, "ci_reason": None if ci else "a single image has no spread",
    }  # fmt: skip
    return ExplainerLead.model_validate({**fields, **changes})


@pytest.mark.parametrize(("ci", "marked"), [((0.01, 0.24), True), ((-0.01, 0.26), False), (None, False)])
def test_the_best_of_a_column_is_marked_where_its_lead_is_more_than_chance(
    report: AuditReport, ci: tuple[float, float] | None, *, marked: bool
) -> None:
    told = report.model_copy(update={"leads": (lead("cam", "gradient", ci),)})
    best = {
        (row.explainer, column.metric)
        for row in summary_rows(told)
        for column, cell in zip(summary_columns(told), row.cells, strict=True)
        if cell is not None and cell.best
    }
    assert best == ({("cam", "inter_model_deletion")} if marked else set())
    page = render_html(told)
    assert page.count('class="best"') == marked
    text = " ".join("".join(outline(page).text).split())
    assert "paired by image, leaves out 0" in text
    assert ("best, and clearly so" in text) == marked
    # a report of before says nothing of leads
    assert not any(cell and cell.best for row in summary_rows(report) for cell in row.cells)
    assert "so none is marked" in render_html(report)


def test_every_check_has_headlines_that_exist() -> None:
    for kind, contract in CHECK_OF_KIND.items():
        # six games may be played; a plan that leaves the choice to us plays four
        assert 1 <= len(contract.headlines) <= (COLUMNS_ON_A_PAGE if kind == "insertion_deletion" else 4)
        assert contract.floors_shown <= set(contract.headlines)
        assert set(contract.expectations_shown) <= set(contract.headlines)
        assert set(contract.expectations_shown.values()) <= set(contract.metrics)
        for metric in contract.headlines:
            assert contract.metrics[metric].of_explainer
            assert not contract.metrics[metric].control
    of_one_model = {kind for kind, contract in CHECK_OF_KIND.items() if "several_models" not in contract.needs}
    assert {check.kind for check in CHECKS} == of_one_model


def test_a_summary_joins_the_changes_of_ssim(several: AuditReport) -> None:
    assert [column.title for column in summary_columns(several) if column.check == "ssim_sweep"] == ["ssim all"]
    assert {r.variant for r in several.results if r.metric == "ssim"} == {"all", "all_valid", "rotate", "hue"}


def test_with_several_models_rows_are_listed_model_by_model(several: AuditReport) -> None:
    rows = summary_rows(several)
    names = ("gradient", "guided_backpropagation", "cam", "random")
    assert [(row.model, row.explainer) for row in rows] == [(model, name) for model in MODELS for name in names]
    reasons = {(row.model, row.explainer): row.not_applicable for row in rows if row.not_applicable}
    assert reasons == {
        **{(model, "guided_backpropagation"): "the model has no rectifier" for model in MODELS},
        ("second", "cam"): HOSTILE,
    }


def test_the_best_is_the_best_of_its_own_model(several: AuditReport) -> None:
    position = [column.metric for column in summary_columns(several)].index("inter_model_deletion")
    leads = (
        lead("cam", "gradient", (0.1, 0.3), model="first"),
        lead("gradient", "cam", (0.3, 0.5), model="third"),
    )
    found = {
        (row.model, row.explainer)
        for row in summary_rows(several.model_copy(update={"leads": leads}))
        if (cell := row.cells[position]) is not None and cell.best
    }
    assert found == {("first", "cam"), ("third", "gradient")}


def column(check: str, metric: str, variant: str | None = None) -> SummaryColumn:
    return SummaryColumn(check=check, metric=metric, variant=variant, unit="", higher_is_better=True, meaning="")


def test_wide_checks_become_several_tables_and_none_mixes_checks() -> None:
    augmentations = [column("sweep", metric, f"f{number}") for metric in ("a", "b") for number in range(7)]
    columns = [*augmentations, *(column("games", f"g{number}") for number in range(4)), column("edda", "a", "top")]
    tables = list(summary_tables(columns, 3))
    assert [(table.title, len(table.positions)) for table in tables] == [
        ("sweep: a (1 of 3)", 3),
        ("sweep: a (2 of 3)", 3),
        ("sweep: a (3 of 3)", 1),
        ("sweep: b (1 of 3)", 3),
        ("sweep: b (2 of 3)", 3),
        ("sweep: b (3 of 3)", 1),
        ("games (1 of 2)", 2),
        ("games (2 of 2)", 2),
        ("edda", 1),
    ]
    assert [position for table in tables for position in table.positions] == list(range(len(columns)))
    assert [tables[0].heading(columns[0]), tables[6].heading(columns[14]), tables[8].heading(columns[18])] == [
        "f0",
        "g0",
        "a top",
    ]


@pytest.mark.parametrize(
    ("mean", "sem", "text"),
    [
        (0.8741, 0.0123, "0.874 ± 0.012"),
        (0.0, 0.0, "0.000 ± 0.000"),
        (-0.0002, 0.02, "-0.000 ± 0.020"),
        (0.00321, 0.0004, "0.003 ± 0.000"),
        (0.0005, None, "0.001"),
        (0.00049, 0.0, "4.9e-04 ± 0.0e+00"),
        (1.234e-7, 5.3e-9, "1.2e-07 ± 5.3e-09"),
        (-1e-8, 0.5, "-0.000 ± 0.500"),
        (9999.0, None, "9999.000"),
        (12345.6, 7.0, "1.2e+04 ± 7.0e+00"),
        (None, None, "-"),
    ],
)
def test_numbers_have_three_decimals_or_a_power_of_ten(mean: float | None, sem: float | None, text: str) -> None:
    assert mean_text(mean, sem) == text


def test_the_floor_is_listed_with_every_s_and_with_nothing_else(report: AuditReport) -> None:
    rows = (
        result("stability", "gradient", "s_pearson", 0.45, "rotate", floor=0.8413),
        result("stability", "cam", "s_pearson", 0.55, "rotate", floor=0.0),
        result("stability", "guided_backpropagation", "s_pearson", 0.65, "rotate"),
        result("deletion", "gradient", "srg", 0.5, floor=0.123),
    )
    shown = report.model_copy(update={"results": rows, "controls": ()})
    cells = {row.explainer: row.cells[0] for row in summary_rows(shown)}
    assert {name: cell and cell.floor_text for name, cell in cells.items()} == {
        "gradient": "0.841",
        "cam": "0.000",
        "guided_backpropagation": "",
        "random": None,
    }
    text = " ".join("".join(outline(render_html(shown)).text).split())
    assert "0.450 ± 0.050 [0.350, 0.550] random 0.841" in text
    assert "[0.450, 0.650] random 0.000" in text
    assert text.count("random 0.") == 2
    assert "the floor that a map without knowledge gets" in text
    without = render_html(report.model_copy(update={"results": rows[-1:], "controls": ()}))
    assert "floor that a map" not in without


def test_agreement_stands_between_the_floor_and_the_agreement_of_the_reference_with_itself(report: AuditReport) -> None:
    plan = report.plan.model_copy(update={"checks": (AgreementCheck(reference="today"),)})
    rows = (
        result("agreement", "gradient", "pearson", 0.45, floor=0.0213),
        result("agreement", "gradient", "self_pearson", 0.9712),
        result("agreement", "cam", "pearson", 0.55, floor=0.0213),
        result("agreement", "cam", "self_pearson", None),
    )
    shown = report.model_copy(update={"plan": plan, "results": rows, "controls": (), "conditions": ()})
    assert [column.metric for column in summary_columns(shown)] == ["pearson"]
    cells = {row.explainer: row.cells[0] for row in summary_rows(shown)}
    assert {name: cell and (cell.floor_text, cell.expected_text) for name, cell in cells.items()} == {
        "gradient": ("0.021", "0.971"),
        "cam": ("0.021", ""),
        "guided_backpropagation": None,
        "random": None,
    }
    text = " ".join("".join(outline(render_html(shown)).text).split())
    assert "[0.350, 0.550] random 0.021 itself 0.971" in text
    assert "about as much as can be expected of another model" in text
    without = render_html(shown.model_copy(update={"results": rows[::2]}))
    assert "can be expected of another model" not in without


def test_small_samples_are_marked_only_where_a_mark_is_useful(report: AuditReport) -> None:
    def with_small(*small: bool) -> AuditReport:
        rows = tuple(
            result("deletion", name, "srg", 0.5, small_sample=flag)
            for name, flag in zip(("gradient", "cam"), small, strict=True)
        )
        nothing = result("deletion", "guided_backpropagation", "srg", None)
        return report.model_copy(update={"results": (*rows, nothing), "controls": ()})

    for flags, expected, marks in (
        ((False, False), "none", 0),
        ((True, False), "some", 1),
        ((True, True), "all", 0),
    ):
        told = with_small(*flags)
        assert small_samples(told) == expected
        text = "".join(outline(render_html(told)).text)
        assert text.count("0.500 ± 0.050†") == marks
        assert ("† Fewer than 30 images" in text) == (expected == "some")
        assert ("rest on fewer than 30 images" in text) == (expected == "all")


# --- several models --------------------------------------------------------------------------------


def test_differences_are_model_minus_other_in_either_order_of_the_report(several: AuditReport) -> None:
    blocks = {block.explainer: block for block in side_by_side(several)}
    assert list(blocks) == [None, "gradient", "cam", "random"]
    assert [block.control for block in blocks.values()] == [False, False, False, True]
    assert opponents(several) == ("first", "second")
    lines = next(m for m in blocks["gradient"].metrics if m.column.metric == "inter_model_deletion").lines
    found = [
        (line.model, [one and (one.text, one.interval, one.apart, one.n) for one in line.differences]) for line in lines
    ]
    assert found == [
        ("first", [None, None]),
        ("second", [("+0.200", "[0.100, 0.350]", True, 2), None]),
        ("third", [("-0.050", "[-0.150, 0.100]", False, 2), ("-0.250", "[-0.400, -0.150]", True, 2)]),
    ]


def test_a_metric_that_one_model_lacks_keeps_its_line(several: AuditReport) -> None:
    cam = next(block for block in side_by_side(several) if block.explainer == "cam")
    assert all([line.cell is None for line in metric.lines] == [False, True, False] for metric in cam.metrics)


def test_one_model_has_no_comparison(report: AuditReport) -> None:
    assert list(side_by_side(report)) == []
    text = "".join(outline(render_html(report)).text)
    assert "side by side" not in text
    assert "order explainers alike" not in text


def test_models_of_the_same_order_are_listed_together(several: AuditReport) -> None:
    deletion, lerf, sweep = reliability_rows(several)
    assert deletion.orders == (("first, third", "gradient > cam"), ("second", "cam > gradient"))
    assert lerf.orders == (("first, second, third", "cam > gradient"),)
    assert [row.headline for row in (deletion, lerf, sweep)] == [True, False, True]


def test_the_page_compares_models(several: AuditReport) -> None:
    text = " ".join("".join(outline(render_html(several)).text).split())
    for fact in (
        "Explanations of first, second and third",
        "Untrained model first.",
        "3 of 4",  # explainers that ran on at least one model
        "missed by third",
        "minus second",
        "-0.250 [-0.400, -0.150] n = 2",
        "✗ no",
        "0.62",
        "first, third: gradient > cam",
        "a and c",
        "and 2 more pairs",
        "nothing to order",
        "1 other metrics",
        "0.070 ± 0.070 class 7, n = 4",
        "0.650 ± 0.070 class 8, n = 6",
        "0.410 ± 0.070 n = 9",
        "0.930 ± 0.070 n = 8",
        "53.5 %",
        "maps of the unchanged images",
    ):
        assert fact in text, fact
    assert "Untrained model second" not in text


def test_slices_name_the_classes_at_both_ends(several: AuditReport) -> None:
    (row,) = class_rows(several)["deletion"]  # cam has one class only, so there are no ends
    assert (row.model, row.explainer, row.title) == ("first", "gradient", "inter_model_deletion")
    parts = [part and (part.name, part.text, part.n) for part in row.parts]
    assert parts == [
        ("all images", "0.130 ± 0.050", 2),
        ("class 7", "0.070 ± 0.070", 4),
        ("class 8", "0.650 ± 0.070", 6),
    ]


def test_slices_separate_flipped_images_from_the_others(several: AuditReport) -> None:
    (row,) = flip_rows(several)["sweep"]
    assert row.title == "s_pearson rotate"
    assert [part and part.text for part in row.parts] == ["0.140 ± 0.050", "0.410 ± 0.070", "0.930 ± 0.070"]
    half = several.model_copy(update={"slices": several.slices[:-1]})
    assert flip_rows(half)["sweep"][0].parts[2] is None


def test_the_most_expensive_check_comes_first(several: AuditReport) -> None:
    page = render_html(several)
    cost = page[page.index('id="cost"') :]
    assert cost.index("originals") < cost.index(">deletion<")
    assert 'style="width: 53.5%"' in cost


def test_every_model_has_its_own_curves(several: AuditReport) -> None:
    page = render_html(several)
    for title in ("deletion", "pixel_flipping", "insertion_deletion", "road", "randomization"):
        assert page.count(f"<title>{title}</title>") == len(MODELS), title
    drawings = [part.split("</svg>")[0] for part in page.split("<title>deletion</title>")[1:]]
    numbers = [set(re.findall(r'class="\w+ (e\d)"', drawing)) for drawing in drawings]
    # gradient is explainer 0 and cam explainer 2, which the second model lacks
    assert numbers == [{"e0", "e2"}, {"e0"}, {"e0", "e2"}]


def test_curve_styles_belong_to_metrics_and_every_curve_has_an_axis() -> None:
    for check in CHECKS:
        assert set(check.lines) <= set(check.metrics)
        assert len({line.style for line in check.lines.values()}) == len(check.lines), check.kind
        for metric in check.lines:
            for variant in check.variants_of(metric) or (None,):
                assert check.axis_of(variant), (check.kind, metric, variant)


# --- presets ---------------------------------------------------------------------------------------


def test_a_preset_names_its_paper_and_the_sources_of_its_settings(report: AuditReport) -> None:
    name, preset = next((name, preset) for name, preset in PRESETS.items() if preset.paper)
    told = report.model_copy(
        update={
            "plan": preset.build(7),
            "manifest": report.manifest.model_copy(update={"preset": name}),
            "results": (),
            "controls": (),
            "conditions": (),
        }
    )
    text = "".join(outline(render_html(told)).text)
    assert f"Preset {name} after {preset.paper}: {preset.summary}" in text
    assert all(setting.note in text and setting.path in text for setting in preset.settings)


def test_a_preset_of_another_version_is_named_without_its_settings(report: AuditReport) -> None:
    name, preset = next((name, preset) for name, preset in PRESETS.items() if preset.paper)
    told = report.model_copy(update={"manifest": report.manifest.model_copy(update={"preset": name})})
    text = "".join(outline(render_html(told)).text)
    assert name in text
    assert preset.summary not in text


# --- HTML ------------------------------------------------------------------------------------------


class _Outline(HTMLParser):
    """Tags of a page, checked to be balanced."""

    VOID = frozenset({"meta", "img", "br", "wbr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> _Outline:
    parser = _Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("told", ["report", "several"])
def test_the_page_is_self_contained_and_runs_only_its_own_script(told: str, request: pytest.FixtureRequest) -> None:
    page = render_html(*with_pictures(request.getfixturevalue(told)))
    found = outline(page)
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert page.count(f"<script>{SCRIPT}</script>") == 1
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#"), tag
    # the names of a namespace and of the commands that repeat the audit are the only addresses
    assert set(re.findall(r"https?://[^/\s]*", page)) <= {"https://YOUR-SERVICE"}
    assert "@import" not in page
    assert set(re.findall(r"url\((?:data:|#signed)?", page)) <= {"url(data:", "url(#signed"}


def test_the_policy_of_the_page_allows_its_script_and_nothing_else(report: AuditReport) -> None:
    page = render_html(report)
    (meta,) = [one for tag, one in outline(page).tags if one.get("http-equiv")]
    assert meta["content"] == CONTENT_POLICY
    ran = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(ran.encode()).digest()).decode()
    assert f"'sha256-{digest}'" == SCRIPT_SOURCE
    assert (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ) == CONTENT_POLICY
    for word in ("eval(", "innerHTML", "document.write", "fetch(", "XMLHttpRequest", "localStorage", "</"):
        assert word not in SCRIPT


@pytest.mark.parametrize("name", ["report", "several"])
def test_hostile_texts_are_shown_not_run(name: str, request: pytest.FixtureRequest) -> None:
    page = render_html(*with_pictures(request.getfixturevalue(name)))
    assert page.count("<script") == 1
    assert "alert(" in "".join(outline(page).text)


def test_a_hostile_id_stays_a_string_of_the_style(report: AuditReport) -> None:
    page = render_html(report.model_copy(update={"audit_id": 'a";} </style><script>x()</script>\\'}))
    assert page.count("</style>") == 1
    assert '@bottom-left { content: "Audit " "a\\22 \\3b \\7d \\20 \\3c \\2f style' in page


def test_the_page_shows_every_section(report: AuditReport) -> None:
    text = " ".join("".join(outline(render_html(report)).text).split())
    for fact in (
        "fail",
        "1 of 6",
        "Untrained model",
        "Few images",
        "the message of passed",
        "not applicable: the model has no rectifier",
        "0.450 ± 0.050",
        "[0.350, 0.550]",
        "undecodable_image",
        "never dropped",
        "12,345",
        DIGEST,
        METRICS["deletion"]["inter_model_deletion"].meaning,
        "target probability",
        "random (control)",
    ):
        assert fact in text, fact


@pytest.mark.parametrize("name", ["report", "several"])
def test_the_page_can_be_read_aloud(name: str, request: pytest.FixtureRequest) -> None:
    found = outline(render_html(*with_pictures(request.getfixturevalue(name))))
    tags = found.tags
    assert ("html", {"lang": "en"}) in tags
    assert [tag for tag, _ in tags].count("h1") == 1
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert drawings
    assert all(one.get("role") == "img" or one.get("aria-hidden") == "true" for one in drawings)
    pictures = [one for tag, one in tags if tag == "div" and one.get("role") == "img"]
    assert pictures
    assert all(one.get("aria-label") for one in pictures)
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(
        attributes.get("scope") in {"row", "col", "rowgroup", "colgroup"} for tag, attributes in tags if tag == "th"
    )
    identities = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_the_reference_curve_is_below_the_others(report: AuditReport) -> None:
    deletion = [
        result("deletion", "gradient", metric, 0.5, curve=CURVE) for metric in ("lerf_auc", "morf_auc", "rao_auc")
    ]
    page = render_html(report.model_copy(update={"results": tuple(deletion)}))
    drawing = page.split("<title>deletion</title>")[1].split("</svg>")[0]
    order = [drawing.index(f'class="line dash-{style}"') for style in ("reference", "one", "two")]
    assert order == sorted(order)


def in_both_orders(report: AuditReport) -> AuditReport:
    """A deletion with `rank_by: both` of two explainers, and pixel flipping where each has the order of its kind."""
    checks = (DeletionCheck(rank_by="both"), PixelFlippingCheck())
    rows = [
        result("deletion", explainer, metric, 0.5 + shift, order, ranked_by=order, curve=CURVE)
        for explainer in ("gradient", "cam")
        for order, shift in (("signed", 0.0), ("magnitude", 0.125))
        for metric in ("lerf_auc", "morf_auc", "inter_model_deletion")
    ]
    rows += [result("deletion", explainer, "rao_auc", 0.5, curve=CURVE) for explainer in ("gradient", "cam")]
    rows += [
        result("pixel_flipping", explainer, "pixel_flipping_aoc", 0.5, ranked_by=order)
        for explainer, order in (("gradient", "magnitude"), ("cam", "signed"))
    ]
    plan = report.plan.model_copy(update={"checks": checks})
    return report.model_copy(update={"plan": plan, "results": tuple(rows), "controls": (), "conditions": ()})


def test_a_reader_sees_by_what_pixels_were_ordered(report: AuditReport) -> None:
    both = in_both_orders(report)
    assert orders_used(both) == (
        "deletion orders both ways for gradient, cam.",
        "pixel_flipping orders by signed relevance for cam; by magnitude for gradient.",
    )
    page = render_html(both)
    text = " ".join("".join(outline(page).text).split())
    assert " ".join(orders_used(both)) in text
    assert "inter_model_deletion magnitude" in text
    # nothing is ordered where nothing says so
    assert orders_used(report) == ()


def test_each_order_has_curves_together_with_the_random_one(report: AuditReport) -> None:
    page = render_html(in_both_orders(report))
    for order in ("signed", "magnitude"):
        drawing = page.split(f"<title>deletion: {order}</title>")[1].split("</svg>")[0]
        assert [drawing.count(f'class="line dash-{style}"') for style in ("reference", "one", "two")] == [1, 2, 2]
    assert "<title>deletion</title>" not in page


def test_a_report_without_policy_results_or_curves_still_renders(report: AuditReport) -> None:
    bare = report.model_copy(
        update={
            "verdict": "not_evaluated",
            "results": (),
            "controls": (),
            "conditions": (),
            "intervals": (),
            "statistics": ReportStatistics(evaluated=0, passed=0, warned=0, failed=0, inconclusive=0, not_applicable=0),
        }
    )
    assert "named no conditions" in "".join(outline(render_html(bare)).text)


# --- pictures --------------------------------------------------------------------------------------


def with_pictures(report: AuditReport, images: int = 2) -> tuple[AuditReport, Callable[[str], bytes | None]]:
    """The report with `images` used images, each with a photo and a file of three maps, and what reads these."""
    items = tuple(
        UsedImage(
            index=index,
            name=HOSTILE,
            digest=DIGEST,
            label=(3, 8),
            target=3,
            probability=0.5,
            further_targets=(ExplainedClass(target=8, probability=0.25),),
            by_model={
                model.name: (ExplainedClass(target=number, probability=0.125),)
                for number, model in enumerate(report.models)
                if model.name is not None
            },
        )
        for index in range(images)
    )
    pictures: dict[str, bytes] = {}
    artifacts = []
    for model in report.audited_models:
        for item in items:
            for explainers in ((), ("gradient", "cam", "random")):
                data = f"{'maps' if explainers else 'photo'} of {item.index}{model.name or ''}".encode()
                artifacts.append(
                    Artifact(image=item.index, model=model.name, explainers=explainers, digest=sha256(data))
                )
                pictures[sha256(data)] = data
    told = report.images.model_copy(update={"items": items, "used": images, "pictured": images})
    rows = tuple(row.model_copy(update={"per_image": (row.mean,) * images}) for row in report.results)
    return report.model_copy(update={"images": told, "results": rows, "artifacts": tuple(artifacts)}), pictures.get


def shown(page: str) -> list[str]:
    """What the pictures of a page hold, in order."""
    return [base64.b64decode(found).decode() for found in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)]


def test_each_file_of_pictures_is_in_the_page_once(report: AuditReport) -> None:
    page = render_html(*with_pictures(report))
    assert shown(page) == [f"{what} of {index}" for index in (0, 1) for what in ("photo", "maps")]
    labels = [attributes.get("aria-label") for _, attributes in outline(page).tags]
    for label in (f"Photo {HOSTILE}", f"Map of gradient over {HOSTILE}", f"Map of random over {HOSTILE}"):
        assert label in labels
    text = " ".join("".join(outline(page).text).split())
    for fact in (
        "Images, worst first",
        "also explained, not shown: class 8, probability 0.25",
        "as the model sees it",
        "Orange speaks for the class",
        "label 3, 8",
        "random (control)",
        "2 of 2 images are shown with pictures; the JSON report lists the pictures of 2",
    ):
        assert fact in text, fact


def test_with_several_models_each_has_its_own_table_with_its_own_pictures(several: AuditReport) -> None:
    page = render_html(*with_pictures(several))
    assert shown(page) == [
        f"{what} of {index}{model}" for model in MODELS for index in (0, 1) for what in ("photo", "maps")
    ]
    assert page.count('aria-label="Images of third"') == 1


def test_a_missing_picture_is_left_out(report: AuditReport) -> None:
    told, read = with_pictures(report)
    missing = told.artifacts[1].digest
    page = render_html(told, lambda digest: None if digest == missing else read(digest))
    assert shown(page) == ["photo of 0", "photo of 1", "maps of 1"]


def test_without_pictures_the_page_names_the_json_report(report: AuditReport) -> None:
    told, _ = with_pictures(report)
    for page in (render_html(told), render_html(told, lambda _: None)):
        assert page.count("picture in the JSON report") == 2
        assert shown(page) == []
    assert "picture in the JSON report" not in render_html(report)


def test_maps_of_earlier_versions_are_opaque_pictures(report: AuditReport) -> None:
    told, _ = with_pictures(report)
    names = (None, "gradient", "cam")
    old = tuple(
        Artifact(image=0, explainer=name, digest=sha256(str(name).encode()), media_type="image/png") for name in names
    )
    files = {sha256(str(name).encode()): str(name).encode() for name in names}
    page = render_html(told.model_copy(update={"artifacts": old}), files.get)
    assert shown(page) == ["None", "gradient", "cam"]
    drawn = [one for tag, one in outline(page).tags if tag == "img"]
    assert [one["alt"] for one in drawn] == [f"Map of {name} over {HOSTILE}" for name in names[1:]]
    assert 'class="mapped"' not in page


def test_rendering_needs_neither_torch_nor_numpy() -> None:
    # the gateway renders reports, and its image has neither
    code = (
        "import sys, auditcore.report.page.html, auditcore.report.junit;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- charts ----------------------------------------------------------------------------------------


def points(drawing: str, style: str) -> list[list[tuple[float, float]]]:
    """Runs of points of the path with these classes."""
    path = next(e for e in ET.fromstring(drawing).iter("path") if e.get("class") == style).get("d") or ""  # noqa: S314
    runs = [run.removesuffix("Z").split() for run in path.split("M")[1:]]
    return [[tuple(float(number) for number in point.split(",")) for point in run] for run in runs]  # type: ignore[misc]


def test_a_curve_is_drawn_where_its_values_are() -> None:
    curve = Curve(x=(0, 1, 2, 3, 4), mean=(0, 0.5, None, 1, 1), lo=(0, 0.25, None, 1, 1), hi=(0, 0.75, None, 1, 1))
    drawing = str(curve_chart("a < b", "x", [Series("name", "one", "one", curve, 3)]))
    assert '<g class="one e3">' in drawing
    assert "a &lt; b" in drawing
    lines = points(drawing, "line dash-one")
    assert [len(run) for run in lines] == [2, 2]
    across = [x for run in lines for x, _ in run]
    up = [-y for run in lines for _, y in run]
    assert all(before < after for before, after in pairwise(across))
    assert up[0] < up[1] < up[2]
    assert (up[1] - up[0]) == pytest.approx((up[2] - up[0]) / 2, abs=0.11)
    bands = points(drawing, "band")
    assert [len(run) for run in bands] == [4, 4]
    (_, upper), (_, lower) = bands[0][1], bands[0][2]
    assert lower - upper == pytest.approx((up[2] - up[0]) / 2, abs=0.11)


def test_a_flat_curve_and_a_single_position_do_not_divide_by_zero() -> None:
    single = Curve(x=(0.5,), mean=(0.5,), lo=(0.5,), hi=(0.5,))
    assert "nan" not in str(curve_chart("one", "x", [Series("name", "one", "one", single)]))


def test_models_share_a_label_and_differ_in_shape_and_color() -> None:
    rows = [
        Interval("gradient", 0.1 * number, (0, 0.5), muted=False, number=number, model=f"m{number}")
        for number in range(16)
    ]
    drawing = ET.fromstring(str(interval_chart("title", [*rows, Interval("cam", 0.5, None, muted=True)])))  # noqa: S314
    assert [text.text for text in drawing.iter("text") if text.get("class") == "label"] == ["gradient", "cam"]
    dots = [(dot.get("class"), dot.get("d") or "") for dot in drawing.iter("path")]
    looks = {(style, re.sub(r"^M[-0-9.]+,[-0-9.]+", "", path)) for style, path in dots[:16]}
    assert len(looks) == 16
    assert dots[16][0] == "dot muted"
    heights = [float((path.split(",")[1]).split("m")[0]) for _, path in dots]
    assert all(after - before >= 11 for before, after in pairwise(heights))
    across = [float(path[1:].split(",")[0]) for _, path in dots[:16]]
    steps = [after - before for before, after in pairwise(across)]
    assert steps == pytest.approx([steps[0]] * 15, abs=0.11)
    assert steps[0] > 0


def test_the_scatter_has_the_mean_over_augmentations_and_leaves_out_gaps(several: AuditReport) -> None:
    # for the third model: gradient has 0.54 under both augmentations and in their mean, changed here; cam loses it
    def changed(row: Result) -> Result | None:
        if (row.model, row.metric, row.variant) != ("third", "s_pearson", "mean"):
            return row
        return {"gradient": row.model_copy(update={"mean": 0.94}), "cam": None, "random": row}[row.explainer or ""]

    rows = [kept for row in several.results if (kept := changed(row)) is not None]
    first, second, third = scatters(several.model_copy(update={"results": tuple(rows)}))
    assert [found.model for found in (first, second, third)] == list(MODELS)
    assert third.robustness == ScatterAxis("sweep", "s_pearson", ("rotate", "brightness"))
    assert third.faithfulness == ScatterAxis("deletion", "inter_model_deletion")
    assert [(point.name, f"{point.x:.9f}", f"{point.y:.9f}", point.muted) for point in third.points] == [
        ("gradient", "0.940000000", "0.530000000", False),
        ("random", "0.340000000", "0.330000000", True),
    ]
    assert third.missing == ("cam",)
    assert second.missing == ()  # cam could not run at all: that is said elsewhere
    assert "because a number is missing: cam" in render_html(several.model_copy(update={"results": tuple(rows)}))


def test_of_two_orders_the_scatter_takes_the_one_that_suits_the_map(several: AuditReport) -> None:
    # here gradient is a sensitivity map, and the explainer called cam is a Grad-CAM
    orders = {"gradient": "magnitude", "cam": "signed", "random": "signed"}
    assert {one.label: one.kind for one in several.plan.explainers}["cam"] == "grad_cam"
    rows = []
    for row in several.results:
        if row.metric != "inter_model_deletion":
            rows.append(row)
            continue
        for order in ("signed", "magnitude"):
            suits = orders[row.explainer or ""] == order
            update = {"variant": order, "ranked_by": order, "mean": row.mean if suits else -9.0}
            rows.append(row.model_copy(update=update))
    checks = tuple(DeletionCheck(rank_by="both") if check.kind == "deletion" else check for check in CHECKS)
    both = {"results": tuple(rows), "plan": several.plan.model_copy(update={"checks": checks})}
    assert scatters(several.model_copy(update=both)) == scatters(several)


@pytest.mark.parametrize("kind", ["sweep", "deletion"])
def test_without_both_checks_there_is_no_scatter(several: AuditReport, kind: str) -> None:
    plan = several.plan.model_copy(update={"checks": tuple(check for check in CHECKS if check.kind != kind)})
    assert scatters(several.model_copy(update={"plan": plan})) == ()


def chart(*points: ScatterPoint) -> Scatter:
    return Scatter(None, ScatterAxis("sweep", "s_pearson"), ScatterAxis("deletion", "srg"), points, ())


def test_names_of_close_points_do_not_overlap_and_stay_inside() -> None:
    crowd = [ScatterPoint(f"explainer_number_{number}", 0.5 + 0.001 * number, 0.2, muted=False) for number in range(13)]
    alone = ScatterPoint("a < b", 0.9, -0.1, muted=True)
    drawing = ET.fromstring(str(scatter_chart("title", chart(*crowd, alone))))  # noqa: S314
    names = [text for text in drawing.iter("text") if (text.get("class") or "").startswith("name")]
    assert sorted(name.text or "" for name in names) == sorted(point.name for point in (*crowd, alone))
    boxes = []
    for name in names:
        width = 7.3 * len(name.text or "")
        edge, bottom = float(name.get("x") or 0), float(name.get("y") or 0)
        left = edge - width if "end" in (name.get("class") or "") else edge
        boxes.append((left, bottom - 10, left + width, bottom + 2))
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    assert all(left >= 0 and right <= WIDTH_PX and top >= 0 and low <= HEIGHT_PX for left, top, right, low in boxes)
    assert any(line.get("class") == "leader" for line in drawing.iter("line"))


def test_the_scatter_puts_better_to_the_right_and_up() -> None:
    points = [ScatterPoint("a", 0.5, 0.1, muted=False), ScatterPoint("b", 0.7, 0.3, muted=False)]
    drawing = ET.fromstring(str(scatter_chart("title", chart(*points))))  # noqa: S314
    (x_of_a, y_of_a), (x_of_b, y_of_b) = (
        tuple(float(number) for number in re.findall(r"M([-0-9.]+),([-0-9.]+?)m", dot.get("d") or "")[0])
        for dot in drawing.iter("path")
    )
    assert x_of_a < x_of_b
    assert y_of_a > y_of_b


# --- JUnit -----------------------------------------------------------------------------------------


def test_every_condition_is_a_test_case(report: AuditReport) -> None:
    suite = ET.fromstring(render_junit(report).encode())[0]  # noqa: S314 - our own document
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "6",
        "failures": "1",
        "skipped": "1",
        "errors": "1",
    }
    outcomes = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert outcomes == {
        "passed: inter_model_deletion at least 0.25": ["system-out"],
        "failed: inter_model_deletion at least 0.25": ["failure"],
        "warned: inter_model_deletion[rotate] at most 0.25": ["system-out"],
        "not_applicable: inter_model_deletion at least 0.25": ["skipped"],
        "inconclusive: inter_model_deletion at least 0.25": ["error"],
        "advice: inter_model_deletion at least 0.25": ["system-out"],
    }
    classes = {case.get("classname") for case in suite.iter("testcase")}
    assert classes == {"deletion.gradient", "deletion.model"}
    warned = suite.findall("testcase")[2].findtext("system-out") or ""
    assert warned.startswith("warning: the message of warned")
    assert "mean 0.2, 95 % interval [0.1, 0.3], 9 images, threshold 0.25, judged by the interval" in warned
    (error,) = suite.findall("testcase/error")
    assert (error.get("type"), error.get("message")) == ("inconclusive", "the message of inconclusive")
    advice = suite.findall("testcase")[5].findtext("system-out") or ""
    assert advice.startswith("warning: the message of inconclusive")


def test_junit_names_the_model_of_each_condition(several: AuditReport) -> None:
    suite = ET.fromstring(render_junit(several).encode())[0]  # noqa: S314 - our own document
    assert [case.get("classname") for case in suite.iter("testcase")] == [
        f"{model}.deletion.gradient" for model in MODELS
    ]
    properties = {entry.get("name"): entry.get("value") for entry in suite.iter("property")}
    assert {name: properties[f"model_digest.{name}"] for name in MODELS} == {
        model.name: model.digest for model in several.models
    }
    assert "model_digest" not in properties


def test_junit_survives_hostile_texts(report: AuditReport) -> None:
    suite = ET.fromstring(render_junit(report).encode())[0]  # noqa: S314 - our own document
    failure = suite.find("testcase/failure")
    assert failure is not None
    # a bell cannot be written in XML at all; everything else arrives as it was
    assert failure.get("message") == f"mean is below {HOSTILE}".replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert "0.2" in (failure.text or "")
