"""The rows, the page and the JUnit document of a report."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.augmentations import Rotate
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, GuidedBackpropagation, Random
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.models import FactoryModel, Preprocessing, Weights
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import (
    AuditReport,
    CalibratedInterval,
    ConditionOutcome,
    Curve,
    ExcludedImage,
    Manifest,
    ReportImages,
    ReportModel,
    ReportStatistics,
    Result,
    UsedImage,
)
from auditcore.contracts.shards import Cost
from auditcore.report.charts import Series, curve_chart
from auditcore.report.gallery import gallery_artifacts, gallery_rows
from auditcore.report.html import render_html
from auditcore.report.junit import render_junit
from auditcore.report.table import summary_columns, summary_rows

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
        "statistic": "mean",
        "comparison": "at_least",
        "threshold": 0.25,
        "observed": 0.2,
        "ci": (0.1, 0.3),
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
        statistics=ReportStatistics(evaluated=4, passed=1, warned=1, failed=1, not_applicable=1),
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
                SweepCheck(name="stability", families=(Rotate(interval=(-20, 20)),), levels=3),
                DeletionCheck(),
                EddaCheck(keep=(0.15,)),
            ),
        ),
        intervals=(
            CalibratedInterval(
                check="stability", family="rotate", interval=(-20, 20), reached=False, message="never dropped"
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
            outcome("not_applicable", explainer=None, observed=None, ci=None),
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
            shards=1,
            attempts=1,
        ),
    )


# --- rows ------------------------------------------------------------------------------------------


def test_columns_follow_the_plan(report: AuditReport) -> None:
    assert [(column.check, column.title) for column in summary_columns(report)] == [
        ("stability", "s_pearson rotate"),
        ("deletion", "inter_model_deletion"),
        ("edda", "sufficiency top_15"),
    ]


def test_one_row_an_explainer_with_gaps_and_reasons(report: AuditReport) -> None:
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


def test_the_best_of_a_column_is_marked_and_never_the_control(report: AuditReport) -> None:
    best = {
        (row.explainer, column.metric)
        for row in summary_rows(report)
        for column, cell in zip(summary_columns(report), row.cells, strict=True)
        if cell is not None and cell.best
    }
    # s_pearson has one rival besides the control, so nobody wins; sufficiency likewise
    assert best == {("cam", "inter_model_deletion")}


# --- HTML ------------------------------------------------------------------------------------------


class _Outline(HTMLParser):
    """Tags of a page, checked to be balanced."""

    VOID = frozenset({"meta", "img", "br"})

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


def test_the_page_is_self_contained_and_runs_nothing(report: AuditReport) -> None:
    page = render_html(*with_pictures(report))
    found = outline(page)
    assert "script" not in {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert "url(" not in page


def test_hostile_texts_are_shown_not_run(report: AuditReport) -> None:
    page = render_html(report)
    assert "<script" not in page
    assert "alert(" in "".join(outline(page).text)


def test_the_page_tells_the_whole_story(report: AuditReport) -> None:
    text = " ".join("".join(outline(render_html(report)).text).split())
    for fact in (
        "fail",
        "1 of 4",
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


def test_the_page_can_be_read_aloud(report: AuditReport) -> None:
    found = outline(render_html(*with_pictures(report)))
    tags = found.tags
    assert ("html", {"lang": "en"}) in tags
    assert [tag for tag, _ in tags].count("h1") == 1
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert drawings
    assert all(one.get("role") == "img" or one.get("aria-hidden") == "true" for one in drawings)
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in tags if tag == "th")
    identities = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_the_reference_curve_lies_below_the_others(report: AuditReport) -> None:
    deletion = [
        result("deletion", "gradient", metric, 0.5, curve=CURVE) for metric in ("lerf_auc", "morf_auc", "rao_auc")
    ]
    page = render_html(report.model_copy(update={"results": tuple(deletion)}))
    drawing = page.split("<title>deletion: gradient</title>")[1].split("</svg>")[0]
    order = [drawing.index(f'class="line {style}"') for style in ("reference", "one", "two")]
    assert order == sorted(order)


def test_a_report_without_policy_results_or_curves_still_renders(report: AuditReport) -> None:
    bare = report.model_copy(
        update={
            "verdict": "not_evaluated",
            "results": (),
            "controls": (),
            "conditions": (),
            "intervals": (),
            "statistics": ReportStatistics(evaluated=0, passed=0, warned=0, failed=0, not_applicable=0),
        }
    )
    assert "named no conditions" in "".join(outline(render_html(bare)).text)


# --- the gallery -----------------------------------------------------------------------------------


def with_pictures(report: AuditReport, images: int = 2) -> tuple[AuditReport, dict[str, bytes]]:
    """The report with `images` used images, each with a photo and three maps, and the bytes of these."""
    items = tuple(
        UsedImage(index=index, name=HOSTILE, digest=DIGEST, label=None, target=3, probability=0.5)
        for index in range(images)
    )
    pictures: dict[str, bytes] = {}
    artifacts = []
    for item in items:
        for explainer in (None, "gradient", "cam", "random"):
            data = f"{explainer} of {item.index}".encode()
            artifacts.append(Artifact(image=item.index, explainer=explainer, digest=sha256(data)))
            pictures[sha256(data)] = data
    told = report.images.model_copy(update={"items": items, "used": images, "pictured": images})
    return report.model_copy(update={"images": told, "artifacts": tuple(artifacts)}), pictures


def shown(page: str) -> list[str]:
    """What the pictures of a page hold, in order."""
    prefix = "data:image/png;base64,"
    uris = [attributes["src"] or "" for tag, attributes in outline(page).tags if tag == "img"]
    assert all(uri.startswith(prefix) for uri in uris)
    return [base64.b64decode(uri.removeprefix(prefix)).decode() for uri in uris]


def test_the_gallery_shows_the_photo_and_then_every_map_image_by_image(report: AuditReport) -> None:
    page = render_html(*with_pictures(report))
    assert shown(page) == [f"{name} of {index}" for index in (0, 1) for name in (None, "gradient", "cam", "random")]
    found = outline(page)
    assert [attributes["alt"] for tag, attributes in found.tags if tag == "img"][:2] == [
        f"Photo {HOSTILE}",
        f"Map of gradient over {HOSTILE}",
    ]
    text = " ".join("".join(found.text).split())
    for fact in ("What the explainers show", "class 3, probability 0.5", "as the model sees it", "red is positive"):
        assert fact in text


def test_the_gallery_holds_the_first_dozen_and_says_so(report: AuditReport) -> None:
    told, pictures = with_pictures(report, images=14)
    assert {artifact.image for artifact in gallery_artifacts(told)} == set(range(12))
    page = render_html(told, pictures)
    assert len(shown(page)) == 12 * 4
    assert "12 of 14 images are shown; the JSON report lists the pictures of 14" in page
    assert "8 more" in page


def test_a_picture_that_is_gone_is_left_out(report: AuditReport) -> None:
    told, pictures = with_pictures(report)
    del pictures[told.artifacts[1].digest]
    assert shown(render_html(told, pictures))[:2] == ["None of 0", "cam of 0"]


def test_without_pictures_there_is_no_gallery(report: AuditReport) -> None:
    assert "What the explainers show" not in render_html(report)
    assert "What the explainers show" not in render_html(with_pictures(report)[0])


@pytest.mark.parametrize(("explainers", "columns"), [(1, 2), (7, 8), (11, 6), (20, 7)])
def test_lines_of_a_row_are_about_equally_long(report: AuditReport, explainers: int, columns: int) -> None:
    data = b"picture"
    names = [None, *(f"e{number}" for number in range(explainers))]
    artifacts = tuple(Artifact(image=0, explainer=name, digest=sha256(data)) for name in names)
    (row,) = gallery_rows(report.model_copy(update={"artifacts": artifacts}), {sha256(data): data})
    assert row.columns == columns


def test_the_legend_has_the_colors_of_the_maps(report: AuditReport) -> None:
    page = render_html(*with_pictures(report))
    legend = page.split('aria-label="Color scale')[1].split("</svg>")[0]
    colors = re.findall(r'fill="(#[0-9a-f]{6})"', legend)
    assert (colors[0], colors[10], colors[-1]) == ("#2166ac", "#ffffff", "#b2182b")
    assert len(colors) == 21


def test_rendering_needs_neither_torch_nor_numpy() -> None:
    # the gateway renders reports, and its image has neither
    code = (
        "import sys, auditcore.report.html, auditcore.report.junit;"
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
    drawing = str(curve_chart("a < b", [Series("name", "one", curve)]))
    assert "a &lt; b" in drawing
    lines = points(drawing, "line one")
    assert [len(run) for run in lines] == [2, 2]
    across = [x for run in lines for x, _ in run]
    up = [-y for run in lines for _, y in run]
    assert all(before < after for before, after in pairwise(across))
    assert up[0] < up[1] < up[2]
    assert (up[1] - up[0]) == pytest.approx((up[2] - up[0]) / 2, abs=0.11)
    bands = points(drawing, "band one")
    assert [len(run) for run in bands] == [4, 4]
    (_, upper), (_, lower) = bands[0][1], bands[0][2]
    assert lower - upper == pytest.approx((up[2] - up[0]) / 2, abs=0.11)


def test_a_flat_curve_and_a_single_position_do_not_divide_by_zero() -> None:
    single = Curve(x=(0.5,), mean=(0.5,), lo=(0.5,), hi=(0.5,))
    assert "nan" not in str(curve_chart("one", [Series("name", "one", single)]))


# --- JUnit -----------------------------------------------------------------------------------------


def test_every_condition_is_a_test_case(report: AuditReport) -> None:
    suite = ET.fromstring(render_junit(report).encode())[0]  # noqa: S314 - our own document
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }
    outcomes = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert outcomes == {
        "passed: inter_model_deletion at least 0.25": ["system-out"],
        "failed: inter_model_deletion at least 0.25": ["failure"],
        "warned: inter_model_deletion[rotate] at most 0.25": ["system-out"],
        "not_applicable: inter_model_deletion at least 0.25": ["skipped"],
    }
    classes = {case.get("classname") for case in suite.iter("testcase")}
    assert classes == {"deletion.gradient", "deletion.model"}
    warned = suite.findall("testcase")[2].findtext("system-out") or ""
    assert warned.startswith("warning: the message of warned")


def test_junit_survives_hostile_texts(report: AuditReport) -> None:
    suite = ET.fromstring(render_junit(report).encode())[0]  # noqa: S314 - our own document
    failure = suite.find("testcase/failure")
    assert failure is not None
    # a bell cannot be written in XML at all; everything else arrives as it was
    assert failure.get("message") == f"mean is below {HOSTILE}".replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert "0.2" in (failure.text or "")
