"""Both clients against a real gateway on a port and a real worker."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

import digits
from auditcore.client import AsyncClient, AuditCancelled, AuditFailed, Client, WaitTimeout, answers, operations
from auditcore.client.answers import AuditStatus
from auditcore.client.calls import MEDIA_TYPES, ReportForm
from auditcore.client.errors import Deleted, InvalidArgument, NotFound, Refused
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.gateway import schemas
from auditcore_service.key_files import create_signing_key
from auditcore_service.settings import Settings
from both_clients import KINDS, Kind, client_of
from running_gateway import running_gateway, url_of
from service_trainings import ALLOWED
from service_trainings import MODEL as TRAINED_MODEL
from service_trainings import PLAN as TRAINING_PLAN
from small_model import SMALL_MODEL
from worker_in_process import working

MODEL = TypeAdapter[Any](ModelReference).validate_python(SMALL_MODEL)
PLAN = AuditPlan.model_validate(
    {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
)
POLICY = Condition.model_validate(
    {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": -1.0}
)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], key_file: Path) -> Settings:
    return make_settings(queue="database", signing_key=key_file, **ALLOWED)


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running_gateway(settings) as server:
        yield url_of(server)


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    kind: Kind = request.param
    with client_of(kind, url) as one:
        yield one


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(digits.png(number))
    return folder


def test_from_images_to_a_verified_report(client: Any, settings: Settings, photos: Path, key_file: Path) -> None:
    batch = client.upload(photos, labels={"0.png": 3})
    assert [entry.label for entry in batch.entries] == [3, None]
    assert client.upload(str(photos), labels=[3, None]).digest == batch.digest
    assert client.estimate(model=MODEL, images=batch, plan=PLAN).within_budget

    parts = {"model": MODEL, "images": batch, "plan": PLAN, "policy": [POLICY], "name": "n", "tags": {"k": "v"}}
    audit = client.submit(**parts, idempotency_key="mine")
    assert client.submit(**parts, idempotency_key="mine").id == audit.id
    seen: list[AuditStatus] = []
    with working(settings):
        ended = client.wait(audit.id, on_progress=seen.append, timeout=120)
    assert (seen[0].state, seen[-1], ended.state) == ("queued", ended, "succeeded")
    assert (ended.name, ended.tags, ended.verdict) == ("n", {"k": "v"}, "inconclusive")

    report = client.report(audit.id)
    assert (report.verdict, report.images.used) == ("inconclusive", 2)
    contents = {form: client.report_as(audit.id, form) for form in get_args(ReportForm)}
    assert set(contents) == set(MEDIA_TYPES)
    assert AuditReport.model_validate_json(contents["json"]) == report
    assert contents["html"].startswith(b"<!doctype html>")
    assert b"<testsuite" in contents["junit"]
    assert contents["markdown"].startswith(b"#")
    assert client.artifact(audit.id, report.artifacts[0].digest)

    found = client.verify(audit.id, keys=[_public(key_file)])
    assert (found.findings, found.audit_id) == ((), audit.id)
    stranger = photos / "other.pem"
    create_signing_key(stranger)
    assert client.verify(audit.id, keys=[_public(stranger)]).findings
    with pytest.raises(InvalidArgument, match="no key is trusted"):
        client.verify(audit.id, keys=[])

    events = list(client.events(audit.id))
    assert [events[0].state, events[-1].state, events[-1].verdict] == ["queued", "succeeded", "inconclusive"]
    assert list(client.events(audit.id, after=events[-2].id)) == events[-1:]
    assert list(client.events(audit.id, after=events[-1].id)) == []

    assert client.cancel(audit.id).state == "succeeded"
    client.delete(audit.id)
    with pytest.raises(Deleted):
        client.status(audit.id)


def _public(private: Path) -> bytes:
    from auditcore_service.cli.verifying import read_keys  # noqa: PLC0415 - only this test

    return read_keys([private])[0].pem.encode()


def test_an_audit_without_a_report_is_an_error_with_its_reason(client: Any, settings: Settings) -> None:
    broken = client.submit(model=MODEL, images=client.upload(b"no image"), plan=PLAN)
    with working(settings), pytest.raises(AuditFailed) as failed:
        client.wait(broken.id)
    assert failed.value.code == "no_usable_images"
    assert failed.value.job_id == broken.id
    assert b"<error" in client.report_as(broken.id, "junit")
    with pytest.raises(NotFound):
        client.report(broken.id)

    stopped = client.submit(model=MODEL, images=client.upload(digits.png(0)), plan=PLAN)
    with pytest.raises(WaitTimeout, match=stopped.id):
        client.wait(stopped.id, timeout=0.3)
    client.cancel(stopped.id)
    with pytest.raises(AuditCancelled):
        client.wait(stopped.id, timeout=30)


def test_a_list_has_all_pages_of_what_is_wanted(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PAGE", 2)
    batch = client.upload(digits.png(0))
    ids = [
        client.submit(model=MODEL, images=batch, plan=PLAN, tags={"odd": str(number % 2)}).id for number in range(5)
    ][::-1]
    assert [one.id for one in client.list()] == ids
    assert [one.id for one in client.list(tags={"odd": "1"})] == ids[1::2]
    assert [one.id for one in client.list(limit=3)] == ids[:3]
    assert list(client.list(state="succeeded")) == []
    assert list(client.list(verdict="fail")) == []
    now = datetime.now(UTC)
    assert len(list(client.list(created_after=now - timedelta(hours=1), created_before=now))) == 5
    assert list(client.list(created_before=now - timedelta(hours=1))) == []
    assert list(client.list(model=f"sha256:{0:064}")) == []
    assert next(iter(client.list())).id == ids[0]


def test_what_the_service_knows(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PAGE", 1)
    policies = list(client.policies())
    assert {"quick-look", "pre-deployment"} <= {one.name for one in policies}
    first = policies[0]
    assert client.policy(first.digest) == client.policy(f"{first.name}@{first.version}")
    catalogue = client.catalogue()
    assert "grad_cam" in {one.kind for one in catalogue.explainers}
    assert catalogue.presets["quick"].plan.explainers
    assert catalogue.checks[0].parameters["properties"]
    client.upload(digits.png(0))
    monkeypatch.setattr(operations, "LOG_PAGE", 1)
    client.submit(model=MODEL, images=client.upload(digits.png(0)), plan=PLAN)
    log = list(client.log())
    assert [one.sequence for one in log] == list(range(1, len(log) + 1))
    assert log[-1].kind == "submit"


def test_mistakes_are_named(client: Any) -> None:
    with pytest.raises(Refused) as refused:
        client.submit({"model": SMALL_MODEL, "images": {"kind": "inline"}, "plan": {"preset": "quick", "seed": -1}})
    assert refused.value.status == 422
    assert "#/plan/seed" in {one.pointer for one in refused.value.mistakes}
    assert "#/plan/seed" in str(refused.value)
    with pytest.raises(InvalidArgument, match="give images, plan, or a whole request"):
        client.submit(model=MODEL)
    with pytest.raises(InvalidArgument, match="name belong into the request"):
        client.submit({}, name="n")
    with pytest.raises(InvalidArgument) as invalid:
        client.submit(model=MODEL, images=client.upload(digits.png(0)), plan=PLAN, name="x" * 999)
    assert invalid.value.mistakes[0].pointer == "#/name"
    for given in ("nothing-here", Path("/"), [b"x", "nothing-here"]):
        with pytest.raises(InvalidArgument):
            client.upload(given)


def test_a_training_from_submit_to_weights(client: Any, settings: Settings) -> None:
    batch = client.upload([digits.png(number) for number in range(8)], labels=[number % 4 for number in range(8)])
    request = {"model": TRAINED_MODEL, "images": {"kind": "batch", "digest": batch.digest}, "plan": TRAINING_PLAN}
    training = client.submit_training(TrainingRequest.model_validate(request))
    with working(settings):
        ended = client.wait_for_training(training.id, timeout=120)
    report = client.training_report(training.id)
    assert report.trained.weights == ended.weights
    assert report == type(report).model_validate_json(client.training_report_bytes(training.id))
    assert len(client.trained_weights(training.id)) > 1000


def test_both_clients_have_the_same_methods() -> None:
    blocking, waiting = (
        {name: one for name, one in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        for kind in (Client, AsyncClient)
    )
    assert set(blocking) == set(waiting)
    for name, one in blocking.items():
        assert inspect.signature(one) == inspect.signature(waiting[name]), name
        assert one.__doc__ == waiting[name].__doc__, name


def test_answers_are_those_of_the_gateway() -> None:
    kinds = (one for one in vars(answers).values() if isinstance(one, type))
    own = {one.__name__: one for one in kinds if issubclass(one, answers.Answer)}
    named = {"Progress": "ProgressBody", "Failure": "ErrorBody", "Waiting": "WaitingBody"}
    left_out = {"Answer", "JobStatus", "AuditEvent", "StoredMaps"}
    for name, kind in own.items():
        if name in left_out:
            continue
        theirs = getattr(schemas, named.get(name, name)).model_fields
        ours = {field.alias or field_name: field for field_name, field in kind.model_fields.items()}
        known = {field.alias or field_name: field for field_name, field in theirs.items()}
        assert set(ours) <= set(known), name
        # what a service may leave out, a client does not ask for
        assert {one for one in ours if ours[one].is_required()} <= {one for one in known if known[one].is_required()}
        if name not in {"ExperimentFileEntry", "Problem"}:
            assert set(ours) == set(known), name


def test_a_client_is_shared_by_threads(url: str) -> None:
    with Client(url) as client:
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(client.catalogue().checks[0].kind)) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(found) == 4
    assert re.fullmatch(r"\w+", found[0])
