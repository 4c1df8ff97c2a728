from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from auditcore import errors
from auditcore_service.gateway.problems import STATUS, install_problem_handlers, location_pointer
from auditcore_service.use_cases import refusals


def tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


SPECIAL: dict[type[Exception], Exception] = {
    errors.DigestMismatch: errors.DigestMismatch(expected="a", actual="b", field="model.weights.uri"),
    errors.LimitExceeded: errors.LimitExceeded(what="it", limit=1, actual=2, unit="bytes", field="images"),
    errors.LabelOutOfRange: errors.LabelOutOfRange(label=9, classes=3, field="images.0"),
    errors.ShapeError: errors.ShapeError(expected=1, actual=2),
    errors.AuditCancelled: errors.AuditCancelled(),
    errors.WorkInterrupted: errors.WorkInterrupted(),
    refusals.TooManyRequests: refusals.TooManyRequests("wait", retry_after_s=1),
}


def instance(kind: type[Exception]) -> Exception:
    if kind in SPECIAL:
        return SPECIAL[kind]
    return kind("fix it", field="a.0.b") if issubclass(kind, errors.InputError) else kind("fix it")


def known() -> list[type[Exception]]:
    return [
        kind
        for kind in (*tree(errors.AuditcoreError), *tree(refusals.Refusal))
        if kind.__module__ in {errors.__name__, refusals.__name__}
    ]


@pytest.mark.parametrize("kind", known())
def test_every_error_has_a_status_and_becomes_a_problem(kind: type[Exception]) -> None:
    assert kind in STATUS
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/")
    def raising() -> None:
        raise instance(kind)

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == problem["status"] == STATUS[kind]  # type: ignore[index]
    if answer.status_code != 500:
        assert problem["code"] == kind.code  # type: ignore[attr-defined]
        assert problem["detail"]
    else:
        assert problem["code"] == "internal_error"


def test_an_unexpected_error_shows_nothing_of_itself() -> None:
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/")
    def raising() -> None:
        msg = "password=swordfish"
        raise RuntimeError(msg)

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert "Traceback" not in answer.text


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in known()]  # type: ignore[attr-defined]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("location", "body", "pointer"),
    [
        (
            ("plan", "explicit", "checks", 0, "deletion", "grid"),
            {"plan": {"checks": [{"grid": 1}]}},
            "#/plan/checks/0/grid",
        ),
        (("plan", "preset", "preset"), {"plan": {"preset": "x"}}, "#/plan/preset"),
        (("plan", "preset", "seed"), {"plan": {"preset": "quick", "seed": -1}}, "#/plan/seed"),
        (("plan", "explicit", "checks"), {"plan": {}}, "#/plan/checks"),
        (("model", "factory", "a/b~c"), {"model": {"a/b~c": 1}}, "#/model/a~1b~0c"),
        (
            (
                "plan",
                "explicit",
                "checks",
                1,
                "sweep",
                "augmentations",
                0,
                "rotate",
                "interval",
                "tuple[float,float]",
                1,
            ),
            {"plan": {"checks": [{}, {"augmentations": [{"interval": [0, "x"]}]}]}},
            "#/plan/checks/1/augmentations/0/interval/1",
        ),
        # a wrong key that is called like a branch: the reading that gets further counts
        (
            ("plan", "explicit", "checks", 0, "sweep", "levels"),
            {"plan": {"explicit": 1, "checks": [{}]}},
            "#/plan/checks/0/levels",
        ),
        (("label", "tuple[int,...]"), {"label": [1, 1]}, "#/label"),
        (("label", "int"), {"label": "x"}, "#/label"),
        (("uris", 0), {"uris": []}, "#/uris/0"),
        ((), None, "#"),
    ],
)
def test_pointers_leave_out_the_names_of_union_branches(
    location: tuple[str | int, ...], body: object, pointer: str
) -> None:
    assert location_pointer(location, body) == pointer


def test_a_branch_is_not_taken_for_a_missing_part() -> None:
    assert location_pointer(("plan", "explicit"), {"plan": {}}, missing=False) == "#/plan"
