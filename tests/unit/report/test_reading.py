"""A report that schema 1.1 made, read today; and the table of upgrades against every field added since.

`report-1.1.json` is an audit of two models with random weights by all kinds of checks, made at commit c7a1421, the last
of schema 1.1. `report-fields-1.1.json` lists the fields of all contracts of a report at that commit.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel

from auditcore.contracts.presets import PRESETS
from auditcore.contracts.report import AuditReport, UpgradedFrom
from auditcore.report.junit import render_junit
from auditcore.report.page.html import render_html
from auditcore.report.reading import SCHEMAS, Addition, Move, Schema, read_report, upgrade
from auditcore.report.serialize import report_bytes
from made_up_audits import report as made_up
from made_up_audits import row, shard

DATA = Path(__file__).parents[2] / "data"
STORED = (DATA / "report-1.1.json").read_bytes()
FIELDS: dict[str, list[str]] = json.loads((DATA / "report-fields-1.1.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def old() -> AuditReport:
    return read_report(STORED)


def test_the_stored_report_is_of_schema_1_1_and_has_every_kind_of_check() -> None:
    content = json.loads(STORED)
    assert content["schema_version"] == "1.1"
    assert len({check["kind"] for check in content["plan"]["checks"]}) == 12
    assert len(STORED) < 300_000


def test_a_report_of_the_current_schema_is_read_unchanged() -> None:
    report = made_up(shard(None, {0: [1]}, row("gradient", [0.5])))
    assert read_report(report_bytes(report)) == report
    assert report.upgraded_from is None


def test_an_old_report_keeps_every_number_and_names_its_schema(old: AuditReport) -> None:
    content = json.loads(STORED)
    assert old.upgraded_from is not None
    assert old.upgraded_from.schema_version == "1.1"
    assert old.upgraded_from.definitions == SCHEMAS["1.1"].definitions
    now = json.loads(report_bytes(old))
    for part in ("images", "manifest", "cost", "slices", "not_applicable", "verdict"):
        assert now[part] == content[part], part
    for part in ("results", "controls", "comparisons", "conditions"):
        for entry, before in zip(now[part], content[part], strict=True):
            renamed = {"metric": entry["metric"]} if before["metric"] == "wsol_iou" else {}
            assert {name: entry[name] for name in before} == before | renamed, part
    assert now["statistics"] == content["statistics"] | {"inconclusive": 0}


def test_an_old_report_shows_how_its_audit_ran_and_not_current_defaults(old: AuditReport) -> None:
    checks = {check["kind"]: check for check in json.loads(report_bytes(old))["plan"]["checks"]}
    for kind in ("deletion", "edda", "pixel_flipping", "insertion_deletion", "road"):
        assert checks[kind]["rank_by"] == "signed"
    for kind in ("sweep", "ssim_sweep", "sensitivity"):
        assert checks[kind]["noise"] == "fresh"
    assert {result.metric for result in old.results if result.check == "localization"} == {
        "energy_pointing_game",
        "effective_heat_ratio",
        "wsol_iou_largest_region",
    }
    for condition in old.conditions:
        assert (condition.statistic, condition.min_images) == ("mean", 1)
        assert (condition.n > 0) == (condition.observed is not None)
    assert {found.scope for found in old.reliability} == {"all_models"}
    assert all(len(found.models) == 2 for found in old.reliability)


def test_an_old_report_lists_its_results_and_computes_nothing(old: AuditReport) -> None:
    content = json.loads(STORED)
    assert (old.verdict, len(old.results)) == (content["verdict"], len(content["results"]))
    # nothing is recomputed with current definitions
    assert (old.warnings, old.averages, old.rankings, old.occlusion_correlations) == ((), (), (), ())


def test_the_page_of_an_old_report_names_its_schema(old: AuditReport) -> None:
    page = render_html(old)
    assert "Made by schema 1.1; numbers follow the definitions of that time." in page
    for definition in SCHEMAS["1.1"].definitions:
        assert definition in page
    assert "report schema 1.1." in page
    assert "Average over explainers" not in page
    assert "schema 1.1" not in render_html(made_up(shard(None, {0: [1]}, row("gradient", [0.5]))))


def test_an_old_report_of_a_preset_never_claims_the_current_settings() -> None:
    plan = PRESETS["quick"].build(3)
    today = made_up(shard(None, {0: [1]}, row("gradient", [0.5])), plan=plan)
    manifest = today.manifest.model_copy(update={"preset": "quick"})
    today = today.model_copy(update={"manifest": manifest})
    assert "Where the settings of quick come from" in render_html(today)
    before = today.model_copy(update={"upgraded_from": UpgradedFrom(schema_version="1.1", definitions=())})
    assert "Where the settings of" not in render_html(before)


def test_an_old_report_becomes_junit(old: AuditReport) -> None:
    suites = ET.fromstring(render_junit(old))  # noqa: S314 - our own
    properties = {one.get("name"): one.get("value") for one in suites.iter("property")}
    assert properties["schema_version"] == "1.1"
    assert len(list(suites.iter("testcase"))) == len(json.loads(STORED)["conditions"])


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"not json", "Expecting value"),
        (b"[]", "schema version None"),
        (b'{"schema_version": "1.0", "results": []}', "schema version '1.0'; versions that can be read: 1.1, 2.0"),
        (b'{"schema_version": "3.0"}', "schema version '3.0'"),
        (b'{"schema_version": {"a": 1}}', "schema version {'a': 1}"),
        (b'{"schema_version": "2.0"}', "Field required"),
        (b'{"schema_version": "1.1"}', "Field required"),
        (b'{"schema_version": "1.1", "plan": {"checks": [{"name": []}, 5]}, "results": 1}', "validation error"),
    ],
)
def test_what_cannot_be_read_is_refused(document: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_report(document)


# --- the table ------------------------------------------------------------------------------------


def documents() -> dict[str, Any]:
    return {
        "plan": {
            "checks": [{"kind": "deletion"}, {"kind": "edda", "name": "mine", "rank_by": "auto"}, {"kind": "sweep"}],
            "speed": None,
        },
        "results": [
            {"check": "mine", "metric": "old"},
            {"check": "deletion", "metric": "old"},
            {"check": "mine", "metric": "kept"},
        ],
        "deviation": {"metrics": [{"check": "mine", "metric": "old"}]},
    }


def upgraded(*additions: Addition, moves: tuple[Move, ...] = (), **renamed: str) -> dict[str, Any]:
    content = documents()
    names = {("edda", old): new for old, new in renamed.items()}
    upgrade(content, "1.1", Schema(additions=additions, moves=moves, renamed_metrics=names, definitions=("a",)))
    return content


def test_an_addition_reaches_entries_of_its_kind_that_lack_it() -> None:
    content = upgraded(
        Addition("plan.checks[deletion].rank_by", "signed"),
        Addition("plan.checks[edda].rank_by", "signed"),
        Addition("plan.checks[*].color", "mean"),
        Addition("plan.speed.fast", value=True),
        Addition("stopping.statistic", "mean"),
        Addition("warnings", []),
    )
    assert content["plan"]["checks"] == [
        {"kind": "deletion", "rank_by": "signed", "color": "mean"},
        {"kind": "edda", "name": "mine", "rank_by": "auto", "color": "mean"},
        {"kind": "sweep", "color": "mean"},
    ]
    assert (content["plan"]["speed"], content["warnings"]) == (None, [])
    assert "stopping" not in content
    assert content["schema_version"] == "2.0"
    assert content["upgraded_from"] == {"schema_version": "1.1", "definitions": ["a"]}


def test_a_renamed_metric_is_renamed_everywhere_in_the_report() -> None:
    content = upgraded(old="new")
    assert [entry["metric"] for entry in content["results"]] == ["new", "old", "kept"]
    assert content["deviation"]["metrics"][0]["metric"] == "new"


def test_a_field_is_renamed_or_removed() -> None:
    content = upgraded(
        Addition("plan.checks[edda].order", "signed"),
        moves=(
            Move("plan.checks[edda].rank_by", "orders", lambda value: [value]),
            Move("plan.checks[edda].name", None),
            Move("plan.checks[sweep].nothing", "something"),
        ),
    )
    assert content["plan"]["checks"][1:] == [{"kind": "edda", "orders": ["auto"], "order": "signed"}, {"kind": "sweep"}]


def test_an_invalid_path_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be a name"):
        upgraded(Addition("plan.checks[.grid", 1))


def contracts(annotation: Any) -> Iterator[tuple[str | None, type[BaseModel]]]:
    """Yield the contracts in an annotation, with their kind if it is one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        yield (None if kind is None else kind.default), annotation
    elif get_origin(annotation) in {Annotated, Union, types.UnionType, tuple, list, dict}:
        for part in get_args(annotation):
            yield from contracts(part)


CALLED_THEN = {"ModelCapabilities": "ModelOffer"}
"""Contracts that had another name in schema 1.1."""


def fields_then(contract: type[BaseModel]) -> set[str] | None:
    """Fields of a contract in schema 1.1, by their names of today; None if there was no such contract."""
    then = FIELDS.get(CALLED_THEN.get(contract.__name__, contract.__name__))
    moved = {move.path.rsplit(".", 1)[-1]: move.to for move in SCHEMAS["1.1"].moves if move.to is not None}
    return None if then is None else {moved.get(name, name) for name in then}


def added_since(contract: type[BaseModel], at: tuple[str, ...], above: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield paths of new fields of contracts that already existed; a renamed field is not new."""
    for name, field in contract.model_fields.items():
        if name not in (fields_then(contract) or ()):
            yield ".".join((*at, name))
            continue
        for kind, part in contracts(field.annotation):
            if fields_then(part) is not None and part not in above:
                step = name if kind is None else f"{name}[{kind}]"
                yield from added_since(part, (*at, step), (*above, contract, part)[:-1])


def covers(addition: Addition, path: str) -> bool:
    pairs = list(zip(addition.path.split("."), path.split("."), strict=False))
    same_length = addition.path.count(".") == path.count(".")
    return same_length and all(
        one == other or (one.endswith("[*]") and one.removesuffix("[*]") == other.split("[")[0]) for one, other in pairs
    )


def test_every_field_added_since_has_a_value_for_old_documents() -> None:
    """If this fails, a contract of the report has a new field: add its value for reports of schema 1.1 to SCHEMAS."""
    added = {path for path in added_since(AuditReport, ()) if path != "upgraded_from"}
    assert {"averages", "warnings"} <= added
    missing = {path for path in added if not any(covers(one, path) for one in SCHEMAS["1.1"].additions)}
    assert missing == set()


def test_every_field_that_was_removed_since_has_a_move() -> None:
    """If this fails, a contract no longer has a field of schema 1.1: add a `Move` for it to SCHEMAS."""
    now = {"AuditReport": AuditReport} | {
        part.__name__: part for parts in walked(AuditReport) for part in parts if part.__name__ in FIELDS
    }
    gone = {f"{name}.{field}" for name, part in now.items() for field in FIELDS[name] if field not in part.model_fields}
    moved = {move.path.rsplit(".", 1)[1] for move in SCHEMAS["1.1"].moves}
    assert {path for path in gone if path.split(".")[1] not in moved} == set()
    assert len(now) > 60


def walked(contract: type[BaseModel], seen: frozenset[type] = frozenset()) -> Iterator[tuple[type[BaseModel], ...]]:
    """Yield every nested contract, with the contract that contains it."""
    for field in contract.model_fields.values():
        for _, part in contracts(field.annotation):
            if part not in seen:
                yield (contract, part)
                yield from walked(part, seen | {contract, part})


def test_the_walk_sees_a_field_of_a_nested_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    for contract, field, path in (
        ("DeletionCheck", "grid", "plan.checks[deletion].grid"),
        ("GradCam", "layer", "plan.explainers[noise_tunnel].method[grad_cam].layer"),
        ("Rotate", "interval", "plan.checks[sweep].augmentations[rotate].interval"),
        ("ConditionOutcome", "statistic", "conditions.statistic"),
    ):
        monkeypatch.setitem(FIELDS, contract, [name for name in FIELDS[contract] if name != field])
        assert path in set(added_since(AuditReport, ()))
