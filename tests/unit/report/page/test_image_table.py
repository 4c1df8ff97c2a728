"""The table of images: columns, flags, missing values, and the budget of pictures."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import made_up_audits as made_up
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.report.page.embedded_pictures import PICTURE_BYTES, embedded_pictures
from auditcore.report.page.html import render_html
from auditcore.report.page.image_rows import MOST_COLUMNS, ImageTable, image_tables
from auditcore.report.worst_images import worst_first

IMAGES = 10
VALUES = [index / 10 for index in range(IMAGES - 1)]


def audited(*policy: Condition) -> AuditReport:
    """Ten images of class 1; the last one has no srg with `gradient`, and rotation flips the first one."""
    gap = made_up.row("gradient", [*VALUES, None], reasons={9: "the map is constant"})
    flips = made_up.row(None, [0.5, *[0.0] * 9], check="sweep", metric="prediction_flip_rate", variant="rotate")
    other = made_up.row("grad_cam", [*VALUES, 0.95])
    return made_up.report(
        made_up.shard(None, {index: [1] for index in range(IMAGES)}, gap, flips, other), policy=policy
    )


def table(report: AuditReport) -> ImageTable:
    ranked = {None: worst_first(report)}
    (found,) = image_tables(report, ranked, {})
    return found


def condition(explainer: str, at_least: float) -> Condition:
    return Condition(check="deletion", explainer=explainer, metric="srg", at_least=at_least)


def test_columns_are_the_results_of_conditions_with_open_ones_first() -> None:
    found = table(audited(condition("grad_cam", -0.9), condition("gradient", 0.9)))
    assert [column.about for column in found.columns] == ["gradient, deletion", "grad_cam, deletion"]
    # by the failed condition on gradient, the image with its lowest value is the worst, and the one without is last
    assert [row.image.index for row in found.rows] == [*range(9), 9]
    assert [row.rank for row in found.rows] == list(range(1, IMAGES + 1))
    last = found.rows[-1].cells[0]
    assert (last.value, last.text, last.reason) == (None, "\N{EN DASH}", "the map is constant")
    assert found.rows[3].cells[0].text == "0.300"


def test_without_conditions_columns_are_averages_over_explainers() -> None:
    found = table(audited())
    (column,) = (one for one in found.columns if one.metric == "srg")
    assert column.about == "average over 2 explainers, deletion"
    cells = {row.image.index: row.cells[found.columns.index(column)] for row in found.rows}
    assert cells[4].value == 0.4
    assert (cells[9].value, cells[9].reason) == (None, "1 of 2 explainers have no value")


def test_more_conditions_than_columns_are_counted() -> None:
    report = audited()
    rows = [report.results[0].model_copy(update={"metric": name}) for name in (
        "srg", "lerf_auc", "morf_auc", "inter_model_deletion", "rao_auc")]  # fmt: skip
    rows += [row.model_copy(update={"explainer": "grad_cam"}) for row in rows[:3]]
    one = audited(condition("gradient", 0.9)).conditions[0]
    conditions = tuple(one.model_copy(update={"metric": row.metric, "explainer": row.explainer}) for row in rows)
    found = table(report.model_copy(update={"results": tuple(rows), "conditions": conditions}))
    assert (len(found.columns), found.left_out) == (MOST_COLUMNS, 2)


def test_flags_say_what_is_special() -> None:
    report = audited(condition("gradient", 0.9))
    items = tuple(one.model_copy(update={"label": 2 if one.index == 4 else 1}) for one in report.images.items)
    labeled = report.model_copy(update={"images": report.images.model_copy(update={"items": items})})
    rows = {row.image.index: row for row in table(labeled).rows}
    assert [index for index, row in rows.items() if row.misclassified] == [4]
    assert {index: row.flipped for index, row in rows.items() if row.flipped} == {0: ("sweep rotate",)}
    assert {index: row.missing for index, row in rows.items() if row.missing} == {9: 1}
    # where labels are explained, the report does not say what was predicted
    of_labels = labeled.model_copy(update={"plan": labeled.plan.model_copy(update={"target": "label"})})
    assert not any(row.misclassified for row in table(of_labels).rows)


def pictured(report: AuditReport, size: int) -> tuple[AuditReport, Callable[[str], bytes | None], list[str]]:
    """The report with a photo and maps of noise of this size for each image, and the digests asked for."""
    noise = random.Random(7)  # noqa: S311 - not a secret
    files: dict[str, bytes] = {}
    artifacts = []
    for item in report.images.items:
        for explainers in ((), ("gradient", "grad_cam")):
            data = noise.randbytes(size)
            files[sha256(data)] = data
            artifacts.append(Artifact(image=item.index, explainers=explainers, digest=sha256(data)))
    asked: list[str] = []

    def read(digest: str) -> bytes | None:
        asked.append(digest)
        return files.get(digest)

    return report.model_copy(update={"artifacts": tuple(artifacts)}), read, asked


def test_pictures_are_those_of_the_worst_images_until_the_budget_is_used() -> None:
    report, read, asked = pictured(audited(condition("gradient", 0.9)), 300)
    ranked = worst_first(report)
    of_one = 2 * (len("data:image/webp;base64,") + len(base64.b64encode(bytes(300))))
    found = embedded_pictures(report, {None: ranked}, read, budget=3 * of_one)
    assert list(found) == [(one.image.index, None) for one in ranked[:3]]
    # the fourth did not fit, and nothing after it was read
    assert len(asked) == 8
    assert len(embedded_pictures(report, {None: ranked}, read, budget=3 * of_one - 1)) == 2


def test_the_page_stays_below_its_size_and_says_where_the_other_pictures_are() -> None:
    report, read, _ = pictured(audited(condition("gradient", 0.9)), PICTURE_BYTES // 5)
    page = render_html(report, read)
    assert len(page.encode()) < 3_000_000
    shown = page.count("--photo: url(")
    assert 0 < shown < IMAGES
    assert page.count("picture in the JSON report") == IMAGES - shown
