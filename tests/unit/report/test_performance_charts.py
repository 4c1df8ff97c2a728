"""A measure against accuracy: which charts there are, where their points lie, and when there are none."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from auditcore.contracts.report import AuditReport
from auditcore.report.page.html import render_html
from auditcore.report.page.performance_charts import ExplainerLine, performance_chart, performance_charts
from made_up_audits import NAMES, report, row, shard

STRUCTURE = "sha256:" + "a" * 64
MEANS = {"one": (0.1, 0.3), "two": (0.6, 0.2), "three": (0.5, 0.9)}


def audited(
    rights: tuple[int, ...], *, labelled: bool = True, structures: tuple[str, ...] = (STRUCTURE,) * 3
) -> AuditReport:
    """Three models that are right on so many of four images."""
    shards = []
    for name, right, structure in zip(NAMES, rights, structures, strict=True):
        rows = [
            row(explainer, [mean] * 4, metric=metric)
            for explainer, mean in zip(("gradient", "grad_cam"), MEANS[name], strict=True)
            for metric in ("inter_model_deletion", "lerf_auc")
        ]
        found = shard(name, {index: [1] for index in range(4)}, *rows)
        records = tuple(
            one.model_copy(update={"label": 1 if labelled else None, "predicted": 1 if one.index < right else 2})
            for one in found.images
        )
        model = found.model.model_copy(update={"structure": structure})
        shards.append(found.model_copy(update={"images": records, "model": model}))
    return report(*shards)


def test_each_explainer_has_a_line_over_the_accuracies() -> None:
    (chart,) = performance_charts(audited((3, 1, 4)))
    assert (chart.title, chart.reliable) == ("deletion: inter_model_deletion", False)
    assert chart.lines == (
        ExplainerLine("grad_cam", ((0.25, 0.2), (0.75, 0.3), (1.0, 0.9))),
        ExplainerLine("gradient", ((0.25, 0.6), (0.75, 0.1), (1.0, 0.5))),
    )
    ET.fromstring(str(chart.drawing))  # noqa: S314 - our own drawing
    assert "grad_cam: 0.9 at accuracy 1" in chart.drawing


def test_a_page_shows_the_charts_and_how_often_models_are_right() -> None:
    page = render_html(audited((3, 1, 4)))
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    assert "lines cross: the order of explainers changes with the model" in text
    assert "Within one architecture" in text
    assert "two, one, three" in text
    assert "0.75 n = 4" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": (3, 1, 4), "labelled": False},
        {"rights": (2, 2, 2)},
        {"rights": (3, 1, 4), "structures": tuple("sha256:" + letter * 64 for letter in "abc")},
    ],
    ids=["no labels", "equal accuracy", "other architectures"],
)
def test_without_models_that_differ_only_in_performance_there_is_no_chart(changes: dict[str, object]) -> None:
    assert performance_charts(audited(**changes)) == ()  # type: ignore[arg-type]


def test_points_lie_where_their_numbers_say() -> None:
    lines = [ExplainerLine("a", ((0.5, 0.0), (1.0, 1.0))), ExplainerLine("b", ((0.5, 0.5), (1.0, 0.5)))]
    drawing = ET.fromstring(str(performance_chart("title", "metric", lines)))  # noqa: S314 - our own drawing
    paths = [
        [tuple(map(float, point.split(","))) for point in (one.get("d") or "")[1:].split()]
        for one in drawing.iter("path")
        if (one.get("class") or "").startswith("line")
    ]
    (a_low, a_high), (b_low, b_high) = paths
    # to the right with accuracy, up with the measure, and half the way for half of it
    assert a_low[0] == b_low[0] < a_high[0] == b_high[0]
    assert a_high[1] < b_high[1] == b_low[1] < a_low[1]
    assert b_low[1] == pytest.approx((a_low[1] + a_high[1]) / 2, abs=0.1)


def test_equal_numbers_have_an_axis_too() -> None:
    ET.fromstring(str(performance_chart("title", "metric", [ExplainerLine("a", ((0.5, 0.0), (0.6, 0.0)))])))  # noqa: S314
