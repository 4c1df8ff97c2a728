"""A stop rule in the service: real shards, database, blobs and Redis, and workers that do as they like."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr
from safetensors.torch import save_file

import digits
from auditcore.auditing import audit
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.orchestration import audit_run
from auditcore.report.stopping import image_order
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.store.records import Shard, ShardKey
from auditcore_service.store.shards import list_shards
from auditcore_service.worker import execution
from auditcore_service.worker.execution import Executor
from worker_in_process import worker_of

IMAGES = 48
PLAN = {
    "seed": 1,
    "explainers": [{"kind": "input_x_gradient"}],
    "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}],
}
# decided after a few images; a random order meets it too, so that the verdict is inconclusive
CLEAR = [{"check": "deletion", "explainer": "input_x_gradient", "metric": "srg", "at_least": -0.5}]
NEVER = [*CLEAR, {"check": "deletion", "explainer": "input_x_gradient", "metric": "srg", "at_least": 0.999_999}]


class Workplace:
    """A gateway, and as many workers as a test wants, each of which runs when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = TestClient(create_app(settings), raise_server_exceptions=False)
        self.client.__enter__()
        self.service: Service = self.client.app.state.service  # type: ignore[attr-defined]
        self.executor = self.worker()

    def worker(self) -> Executor:
        return worker_of(self.service)

    def upload(self, images: int = IMAGES) -> dict[str, str]:
        files = [("images", (f"{number}.png", digits.png(number), "image/png")) for number in range(images)]
        answer = self.client.post("/v1/image-batches", files=files)
        assert answer.status_code == 201, answer.text
        return {"kind": "batch", "digest": answer.json()["digest"]}

    def submit(self, body: dict[str, Any]) -> str:
        answer = self.client.post("/v1/audits", json={"plan": PLAN, "policy": CLEAR, "stop": "conclusive"} | body)
        assert answer.status_code == 202, answer.text
        audit_id: str = answer.json()["id"]
        return audit_id

    def shards(self, audit_id: str) -> tuple[Shard, ...]:
        with self.service.database.reading("default") as connection:
            return list_shards(connection, audit_id)

    def queued(self, audit_id: str) -> list[ShardKey]:
        return [shard.key for shard in self.shards(audit_id) if shard.state == "queued"]

    def work(self, audit_id: str, *, backwards: bool = False) -> dict[str, Any]:
        """Run queued shards until there are none; messages of skipped ones arrive all the same."""
        while queued := self.queued(audit_id):
            for key in reversed(queued) if backwards else queued:
                self.executor.run(key)
        return self.status(audit_id)

    def status(self, audit_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.client.get(f"/v1/audits/{audit_id}").json()
        return status

    def report(self, audit_id: str) -> AuditReport:
        answer = self.client.get(f"/v1/audits/{audit_id}/report")
        assert answer.status_code == 200, answer.text
        return AuditReport.model_validate_json(answer.content)

    def states(self, audit_id: str) -> list[str]:
        return [shard.state for shard in self.shards(audit_id)]


@pytest.fixture
def make_workplace(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Callable[..., Workplace]]:
    opened: list[Workplace] = []

    def make(**overrides: object) -> Workplace:
        rules = {"factories": ("digits:build",), "file_roots": (tmp_path,), "heartbeat_s": 0.05}
        opened.append(Workplace(make_settings(**{**rules, **overrides})))
        return opened[-1]

    yield make
    for workplace in opened:
        workplace.client.__exit__(None, None, None)


@pytest.fixture
def workplace(make_workplace: Callable[..., Workplace]) -> Workplace:
    return make_workplace()


@pytest.fixture
def model(tmp_path: Path) -> dict[str, Any]:
    return digits.reference(digits.write_weights(tmp_path)).model_dump(mode="json")


def timeless(report: AuditReport) -> dict[str, Any]:
    """Everything a report says, apart from what differs between two runs of the same."""
    content = report.model_dump(mode="json")
    for key in ("audit_id", "manifest", "cost"):
        content.pop(key)
    return content


def test_a_clear_case_ends_early_from_submission_to_report(
    make_workplace: Callable[..., Workplace], model: dict[str, Any], database_url: str, tmp_path: Path
) -> None:
    workplace = make_workplace(database_url=SecretStr(database_url))
    body = {"model": model, "images": workplace.upload()}
    audit_id = workplace.submit(body)
    assert [(shard.start, shard.stop) for shard in workplace.shards(audit_id)[:3]] == [(0, 8), (8, 16), (16, 24)]
    status = workplace.work(audit_id)
    assert (status["state"], status["verdict"], status["fraction"]) == ("succeeded", "inconclusive", 1)
    assert status["progress"]["done"] == status["progress"]["total"]
    report = workplace.report(audit_id)
    assert report.stopping is not None
    used = report.stopping.images_used
    assert used < IMAGES / 2
    assert workplace.states(audit_id) == ["done"] * (used // 8) + ["skipped"] * (6 - used // 8) + ["done"]
    assert [item.index for item in report.images.items] == sorted(image_order(1, IMAGES)[:used])
    assert report.manifest.attempts == used // 8

    # the library says the same without a service
    request = AuditRequest.model_validate({"plan": PLAN, "policy": CLEAR, "stop": "conclusive"} | body)
    alone = audit(request, images=digits.encoded(IMAGES), access=digits.access(tmp_path), audit_id=audit_id)
    assert alone.stopping == report.stopping
    assert alone.results[0].per_image == pytest.approx(report.results[0].per_image, rel=1e-3, abs=1e-4)
    events = workplace.client.get(f"/v1/audits/{audit_id}/events").text
    assert events.count('"state": "succeeded"') == 1


def test_the_order_of_deliveries_changes_nothing(workplace: Workplace, model: dict[str, Any]) -> None:
    body = {"model": model, "images": workplace.upload()}
    forth, back = workplace.submit(body), workplace.submit(body)
    assert workplace.work(forth)["state"] == workplace.work(back, backwards=True)["state"] == "succeeded"
    # the second had everything done before its first prefix was complete, and uses no more than the first
    assert workplace.states(back).count("skipped") < workplace.states(forth).count("skipped")
    assert timeless(workplace.report(forth)) == timeless(workplace.report(back))


def test_a_message_that_comes_late_or_twice_finds_nothing_to_do(workplace: Workplace, model: dict[str, Any]) -> None:
    audit_id = workplace.submit({"model": model, "images": workplace.upload()})
    keys = workplace.queued(audit_id)
    workplace.work(audit_id)
    before = (workplace.shards(audit_id), workplace.client.get(f"/v1/audits/{audit_id}/report").content)
    for key in keys:
        workplace.executor.run(key)
    assert (workplace.shards(audit_id), workplace.client.get(f"/v1/audits/{audit_id}/report").content) == before


def test_a_crash_between_completing_and_skipping_is_repaired_by_the_next_shard(
    workplace: Workplace, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"model": model, "images": workplace.upload()}
    smooth, crashed = workplace.submit(body), workplace.submit(body)
    workplace.work(smooth)
    decided = workplace.states(smooth).index("skipped")

    class Killed(BaseException):
        pass

    def killed(*_arguments: object, **_options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(execution, "skip_rest", killed)
        for key in workplace.queued(crashed)[: decided - 1]:
            workplace.executor.run(key)
        with pytest.raises(Killed):
            workplace.executor.run(workplace.queued(crashed)[0])
    assert workplace.states(crashed)[:decided] == ["done"] * decided
    assert "skipped" not in workplace.states(crashed)
    # another process, which knows nothing but what is stored
    workplace.executor = workplace.worker()
    assert workplace.work(crashed)["state"] == "succeeded"
    assert workplace.states(crashed).count("done") == decided + 2
    assert timeless(workplace.report(crashed)) == timeless(workplace.report(smooth))


def test_a_look_that_fails_costs_images_and_not_the_audit(
    workplace: Workplace, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        msg = "no answer"
        raise OSError(msg)

    monkeypatch.setattr(execution, "skip_rest", broken)
    audit_id = workplace.submit({"model": model, "images": workplace.upload()})
    assert workplace.work(audit_id)["state"] == "succeeded"
    assert "skipped" not in workplace.states(audit_id)
    stopping = workplace.report(audit_id).stopping
    assert stopping is not None
    assert stopping.images_used < IMAGES / 2


def test_two_workers_at_once_and_the_busy_one_is_told_to_stop(
    make_workplace: Callable[..., Workplace],
    model: dict[str, Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workplace = make_workplace(database_url=SecretStr(database_url))
    audit_id = workplace.submit({"model": model, "images": workplace.upload()})
    keys = workplace.queued(audit_id)
    started, stopped = threading.Event(), threading.Event()
    real = audit_run.run_shard
    busy = workplace.worker()

    def slow(task: ShardTask, runtime: Runtime) -> Any:
        if threading.current_thread().name != "busy":
            return real(task, runtime)
        started.set()
        try:
            while not stopped.wait(0.01):
                runtime.progress(0.5)
        except BaseException:
            stopped.set()
            raise
        return real(task, runtime)

    monkeypatch.setattr(audit_run, "run_shard", slow)
    thread = threading.Thread(target=busy.run, args=(keys[-1],), name="busy")
    thread.start()
    try:
        assert started.wait(30)
        for key in keys[:-1]:
            workplace.executor.run(key)
        thread.join(30)
        assert stopped.is_set()
    finally:
        stopped.set()
        thread.join()
    assert workplace.shards(audit_id)[len(keys) - 1].state == "skipped"
    assert workplace.work(audit_id)["state"] == "succeeded"
    assert workplace.status(audit_id)["fraction"] == 1


def test_two_workers_race_and_nothing_is_lost_or_doubled(
    make_workplace: Callable[..., Workplace], model: dict[str, Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # workers are processes, and torch traces one model at a time in each; claims, ends and looks do race
    engine, compute = threading.Lock(), Executor._compute

    def one_at_a_time(*arguments: Any) -> Any:
        with engine:
            return compute(*arguments)

    monkeypatch.setattr(Executor, "_compute", one_at_a_time)
    workplace = make_workplace(database_url=SecretStr(database_url), shard_images=4)
    body = {"model": model, "images": workplace.upload()}
    alone, raced = workplace.submit(body), workplace.submit(body)
    workplace.work(alone)
    keys = workplace.queued(raced)
    workers = [workplace.worker(), workplace.worker()]

    def run(worker: Executor, mine: list[ShardKey]) -> None:
        for key in mine:
            worker.run(key)

    # each is sent every message, in opposite orders of pairs
    orders = [keys, [key for pair in zip(keys[1::2], keys[::2], strict=True) for key in pair]]
    threads = [threading.Thread(target=run, args=pair) for pair in zip(workers, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert workplace.work(raced)["state"] == "succeeded"
    assert all(shard.attempt <= 1 for shard in workplace.shards(raced))
    assert timeless(workplace.report(raced)) == timeless(workplace.report(alone))


def test_an_open_condition_uses_every_image_and_several_models_wait_for_each_other(
    workplace: Workplace, model: dict[str, Any], tmp_path: Path
) -> None:
    noisy = {
        name: value + 0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        if value.dtype.is_floating_point
        else value
        for name, value in digits.trained().state_dict().items()
    }
    save_file(noisy, tmp_path / "noisy.safetensors")
    other = model | {"weights": {"uri": (tmp_path / "noisy.safetensors").as_uri()}}
    body = {
        "models": [{"name": "trained", "model": model}, {"name": "noisy", "model": other}],
        "images": workplace.upload(),
    }
    early = workplace.submit(body)
    assert [shard.model for shard in workplace.shards(early)[:4]] == [0, 1, 0, 1]
    workplace.work(early)
    report = workplace.report(early)
    assert report.stopping is not None
    assert report.stopping.stopped_early
    assert [one.model for one in report.stopping.decisions] == ["trained", "noisy"]
    assert {len(result.per_image) for result in report.results} == {report.stopping.images_used}

    sweep = {"check": "sweep", "explainer": "input_x_gradient", "metric": "s_pearson", "variant": "brightness"}
    plan = PLAN | {
        "checks": [
            {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 50},
            *PLAN["checks"],
        ]  # type: ignore[misc]
    }
    late = workplace.submit(
        {"model": model, "images": workplace.upload(20), "plan": plan, "policy": [{**sweep, "at_least": -5}, *CLEAR]}
    )
    assert {shard.kind for shard in workplace.shards(late)} == {"measure", "compute", "assemble"}
    workplace.work(late)
    whole = workplace.report(late)
    assert whole.stopping is not None
    assert not whole.stopping.stopped_early
    assert whole.images.used == 20
    assert "without bounds" in whole.stopping.reason
    assert {outcome.status for outcome in whole.conditions} == {"vacuous"}


def test_uris_are_fetched_in_the_random_order_and_the_rest_not_at_all(
    workplace: Workplace, model: dict[str, Any], tmp_path: Path
) -> None:
    needed = set(image_order(1, IMAGES)[:16])
    for number in needed:
        (tmp_path / f"{number}.png").write_bytes(digits.png(number))
    uris = [{"uri": (tmp_path / f"{number}.png").as_uri()} for number in range(IMAGES)]
    audit_id = workplace.submit({"model": model, "images": {"kind": "uris", "uris": uris}})
    assert workplace.work(audit_id)["state"] == "succeeded", workplace.status(audit_id)
    report = workplace.report(audit_id)
    assert {item.index for item in report.images.items} <= needed
    assert all(item.name == f"{item.index}.png" for item in report.images.items)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [({"policy": []}, "policy"), ({"stop": {"kind": "conclusive", "alpha": 2}}, "alpha")],
)
def test_a_rule_that_cannot_work_is_refused_at_submit(
    workplace: Workplace, model: dict[str, Any], changes: dict[str, Any], pointer: str
) -> None:
    body = {"model": model, "images": workplace.upload(2), "plan": PLAN, "policy": CLEAR, "stop": "conclusive"}
    answer = workplace.client.post("/v1/audits", json=body | changes)
    assert answer.status_code == 422
    assert pointer in json.dumps(answer.json())
