"""`--baseline` of `auditcore audit` and `auditcore submit`: real audits, and a real gateway."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import digits
from auditcore.contracts.report import AuditReport
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from command_line import run
from worker_in_process import worker_of

IMAGES = 8
PLAN = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}, {"kind": "agreement"}],
}
EARLIER_PLAN = {**PLAN, "checks": PLAN["checks"][:1]}
POLICY = [
    {"check": "deletion", "explainer": "gradient", "metric": "srg", "non_inferiority_margin": 2},
    {"check": "agreement", "explainer": "gradient", "metric": "pearson", "at_least": 0.99, "min_images": 4},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, the request of a released model, and that of a model that was trained again."""
    for seed, name, fields in ((0, "released", {"plan": EARLIER_PLAN}), (1, "new", {"plan": PLAN, "policy": POLICY})):
        model = digits.reference(digits.write_weights(tmp_path, seed)).model_dump(mode="json")
        # a path relative to the request file
        model["weights"]["uri"] = model["weights"]["uri"].rsplit("/", 1)[1]
        (tmp_path / f"{name}.json").write_text(json.dumps({"model": model, **fields}))
    (tmp_path / "images").mkdir()
    for number in range(IMAGES):
        (tmp_path / "images" / f"{number}.png").write_bytes(digits.png(number))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_FACTORIES", '["digits:build"]')
    monkeypatch.setenv("AUDIT_MICRO_BATCH", "4")
    return tmp_path


def read(name: str) -> AuditReport:
    return AuditReport.model_validate_json(Path(name).read_text())


def change(name: str, **fields: Any) -> str:
    """The request of the new model with other fields, in a file."""
    document = json.loads(Path("new.json").read_text()) | fields
    Path(name).write_text(json.dumps(document))
    return name


@pytest.mark.usefixtures("folder")
def test_an_audit_without_a_service_is_compared_with_a_report() -> None:
    assert run("audit", "released.json", "--images", "images", "--out", "old.json").exit_code == 0
    done = run("audit", "new.json", "--images", "images", "--baseline", "old.json", "--out", "out.json")
    assert done.exit_code == 1, done.output
    report, old = read("out.json"), read("old.json")
    assert report.baseline is not None
    assert report.baseline.audit_id == old.audit_id
    assert report.baseline_model is not None
    assert old.model is not None
    assert report.baseline_model.digest == old.model.digest
    assert report.conditions[0].change is not None
    assert [one.status for one in report.conditions] == ["vacuous", "failed"]
    # the option takes the place of what the request names, and a model that has moved is found
    Path("digits.safetensors").rename("moved.safetensors")
    moved = {"audit": "x", "model": old.model.reference.model_dump(mode="json")}
    moved["model"]["weights"]["uri"] = "moved.safetensors"
    request = change("moved.json", baseline=moved)
    again = run("audit", request, "--images", "images", "--baseline", "old.json", "--out", "again.json")
    assert again.exit_code == 1, again.output
    assert read("again.json").results == report.results

    lost = run("audit", "new.json", "--images", "images", "--baseline", "old.json")
    assert lost.exit_code == 2
    assert "baseline.model.weights.uri: " in lost.output
    Path("images/0.png").unlink()
    others = run("audit", request, "--images", "images", "--baseline", "old.json")
    assert others.exit_code == 2
    assert "--baseline: the baseline, audit" in others.output
    assert "used other images" in others.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "new.json", "--baseline", "nothing.json"), "nothing.json cannot be read"),
        (("audit", "new.json", "--baseline", "new.json"), "new.json holds no report that can be read"),
        (("audit", "named.json"), "give its report with --baseline FILE"),
        (
            ("submit", "new.json", "--baseline", "nothing.json"),
            "--baseline nothing.json is no file and no id of an audit",
        ),
        (("submit", "new.json", "--baseline", "new.json"), "new.json holds no report that can be read"),
    ],
)
def test_what_is_no_baseline_is_refused_at_once(arguments: tuple[str, ...], words: str) -> None:
    change("named.json", baseline={"audit": "x"})
    done = run(*arguments, "--images", "images")
    assert done.exit_code == 2
    assert words in done.output


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[str, Service]]:
    """Address and insides of a gateway in this process, without workers."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.service
    finally:
        server.should_exit = True
        thread.join()


def test_a_service_takes_its_report_or_the_id_of_its_audit(
    folder: Path, make_settings: Callable[..., Settings]
) -> None:
    for name in ("released.json", "new.json"):
        document = json.loads(Path(name).read_text())
        document["model"]["weights"]["uri"] = (folder / document["model"]["weights"]["uri"]).as_uri()
        Path(name).write_text(json.dumps(document))
    settings = make_settings(factories=("digits:build",), file_roots=(folder,))
    with listening(settings) as (url, service):
        submit = ("--images", "images", "--url", url)
        first = run("submit", "released.json", *submit)
        assert first.exit_code == 0, first.output
        audit_id = service.audits.page(ANONYMOUS, cursor=None, limit=1)[0][0].id
        worker = worker_of(service)
        for kind in ("compute", "assemble"):
            with service.database.reading() as connection:
                keys = [shard.key for shard in list_shards(connection, audit_id) if shard.kind == kind]
            assert all(worker.run(key) for key in keys)
        Path("old.json").write_bytes(service.audits.report(ANONYMOUS, audit_id))
        stored = []
        for given in ("old.json", audit_id):
            done = run("submit", "new.json", *submit, "--baseline", given)
            assert done.exit_code == 0, done.output
            stored.append(service.audits.page(ANONYMOUS, cursor=None, limit=1)[0][0].request)
        assert stored[0] == stored[1]
        baseline = json.loads(stored[0])["baseline"]
        assert baseline["report"] == service.audits.get(ANONYMOUS, audit_id).report_digest
        assert baseline["model"]["weights"]["uri"].endswith("digits.safetensors")

        Path("other.json").write_text(Path("old.json").read_text() + "\n")
        for given, words in (
            ("other.json", "no report is stored under sha256:"),
            (str(uuid.uuid4()), "there is no audit"),
        ):
            unknown = run("submit", "new.json", *submit, "--baseline", given)
            assert unknown.exit_code == 2
            assert f"--baseline: {words}" in unknown.output
