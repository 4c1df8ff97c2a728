"""The results of a report as rows, as a data frame, and as CSV."""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

import pandas as pd
import pytest

import made_up_audits
from auditcore.contracts.report import AuditReport
from auditcore.contracts.report_rows import ImageRow, ResultRow, image_rows, result_rows
from auditcore_service.cli.report_csv import report_csv

UNDEFINED = "the map is constant"


def _report() -> AuditReport:
    """Of three images the first is left out; one value is undefined, and one result has none at all."""
    return made_up_audits.report(
        made_up_audits.shard(
            None,
            {0: "wrong class", 1: [7, 8], 2: [4]},
            made_up_audits.row("gradient", [0.25, None], reasons={2: UNDEFINED}),
            made_up_audits.row("grad_cam", [None, None], reasons={1: UNDEFINED, 2: UNDEFINED}),
            made_up_audits.row("random", [0.5, 0.75]),
        )
    )


@pytest.fixture
def report() -> AuditReport:
    found = _report()
    first, second = found.images.items
    items = (
        first.model_copy(update={"label": (7, 9), "name": "=a,b.png"}),
        second.model_copy(update={"label": 4}),
    )
    images = found.images.model_copy(update={"items": items, "class_names": {7: "cat"}})
    control = found.results[0].model_copy(update={"metric": "repeatability"})
    return found.model_copy(update={"images": images, "controls": (control,)})


def test_a_row_per_result_has_what_the_report_has(report: AuditReport) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == list(ResultRow._fields)
    assert len(frame) == len(report.results) + len(report.controls)
    assert list(frame["control"]) == [False] * len(report.results) + [True]
    for row, result in zip(frame.to_dict("records"), (*report.results, *report.controls), strict=True):
        for name in (
            "check",
            "explainer",
            "metric",
            "unit",
            "higher_is_better",
            "n",
            "n_not_applicable",
            "small_sample",
        ):
            assert row[name] == getattr(result, name), name
        for name in ("mean", "std", "sem", "floor", "variant"):
            value = getattr(result, name)
            assert (value is None and row[name] is pd.NA) or row[name] == value, name


def test_what_is_undefined_is_missing_and_has_a_reason(report: AuditReport) -> None:
    frame = report.to_frame().set_index("explainer")
    without = frame.loc["grad_cam"]
    assert without["mean"] is pd.NA
    assert without["reason"] == UNDEFINED
    assert without["ci_low"] is pd.NA
    assert without["ci_reason"]
    assert frame[~frame["control"]].loc["gradient", "reason"] is pd.NA
    images = report.to_frame(per_image=True).set_index(["explainer", "image", "control"])
    undefined = images.loc[("gradient", 2, False)]
    assert undefined["value"] is pd.NA
    assert undefined["reason"] == UNDEFINED
    defined = images.loc[("gradient", 1, False)]
    assert defined["value"] == 0.25
    assert defined["reason"] is pd.NA


def test_a_row_per_image_says_what_was_explained(report: AuditReport) -> None:
    frame = report.to_frame(per_image=True)
    assert list(frame.columns) == list(ImageRow._fields)
    assert len(frame) == 2 * (len(report.results) + 1)
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["image"], first["name"], first["labels"]) == (1, "=a,b.png", "7 9")
    assert first["label"] is pd.NA
    assert (first["target"], first["target_name"]) == (7, "cat")
    assert (second["image"], second["label"], second["labels"]) == (2, 4, "4")
    assert second["target"] == 4
    assert second["target_name"] is pd.NA


def test_types_are_those_of_the_docstring_also_without_rows(report: AuditReport) -> None:
    for one in (report, report.model_copy(update={"results": (), "controls": ()})):
        for per_image, names in ((False, ResultRow), (True, ImageRow)):
            types = {name: str(kind) for name, kind in one.to_frame(per_image=per_image).dtypes.items()}
            assert set(types) == set(names._fields)
            assert {types[name] for name in types if name in {"mean", "std", "value", "ci_low"}} == {"Float64"}
            assert {types[name] for name in types if name in {"n", "image", "label", "target"}} == {"Int64"}
            assert types["control"] == "boolean"
            assert types["explainer"] == "string"


def test_every_model_has_its_own_target() -> None:
    shards = [
        made_up_audits.shard(name, images, made_up_audits.row("gradient", values))
        for name, images, values in (("one", {0: [1], 1: [2]}, [0.1, 0.2]), ("two", {0: [5], 1: "wrong class"}, [0.3]))
    ]
    report = made_up_audits.report(*shards)
    targets = {
        (row.model, row.image): row.target
        for row in image_rows(report)
        if row.model is not None and row.explainer == "gradient"
    }
    assert targets == {("one", 0): 1, ("one", 1): 2, ("two", 0): 5, ("two", 1): None}


def test_csv_is_the_same_table(report: AuditReport) -> None:
    for per_image, rows in ((False, list(result_rows(report))), (True, list(image_rows(report)))):
        text = report_csv(report, per_image=per_image).decode()
        header, *lines = csv.reader(io.StringIO(text))
        assert header == list(rows[0]._fields)
        for line, row in zip(lines, rows, strict=True):
            assert line == [_text(value) for value in row]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_without_pandas_the_extra_is_named(report: AuditReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.delitem(sys.modules, "auditcore.contracts.report_frame", raising=False)
    with pytest.raises(ImportError, match=r"auditcore\[pandas\]"):
        report.to_frame()
    monkeypatch.undo()
    sys.modules.pop("auditcore.contracts.report_frame", None)
