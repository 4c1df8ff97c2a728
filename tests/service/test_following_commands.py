"""`list`, `status`, `watch`, `report`, `cancel`, and the files of `submit --wait`, against a gateway and a worker."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import digits
from auditcore.client import Client
from auditcore_service.settings import Settings
from command_line import run
from running_gateway import running_gateway, url_of
from small_model import SMALL_MODEL
from worker_in_process import working

PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
FAILS = [
    {
        "check": "deletion",
        "explainer": "gradient",
        "metric": "lerf_auc",
        "at_least": 1.0,
        "statistic": "mean",
        "min_images": 2,
    }
]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(queue="database")


@pytest.fixture
def url(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with running_gateway(settings) as server:
        monkeypatch.setenv("AUDIT_URL", url_of(server))
        yield url_of(server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / "photos" / f"{number}.png").write_bytes(digits.png(number))
    (tmp_path / "request.json").write_text(json.dumps({"model": SMALL_MODEL, "plan": PLAN, "policy": FAILS}))
    return tmp_path


def submit(url: str, **changes: object) -> str:
    """Id of a new audit."""
    with Client(url) as client:
        images = {"kind": "batch", "digest": client.upload([digits.png(0), digits.png(1)]).digest}
        return client.submit({"model": SMALL_MODEL, "images": images, "plan": PLAN, **changes}).id


def ids_in(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines()[1:]]


def test_submit_prints_the_id_first_and_writes_every_form(settings: Settings, url: str, folder: Path) -> None:
    files = {name: folder / f"report.{name}" for name in ("json", "html", "xml", "md")}
    with working(settings):
        done = run(
            "submit",
            folder / "request.json",
            *("--images", folder / "photos", "--wait", "--out", files["json"], "--html", files["html"]),
            *("--junit", files["xml"], "--markdown", files["md"]),
        )
    assert done.exit_code == 1, done.output
    # a log of the gateway in this process may stand between the lines
    audit_id = next(line for line in done.stdout.splitlines() if len(line) == 36)
    assert f"audit {audit_id} accepted: {url}/v1/audits/{audit_id}" in done.stderr
    assert f"its page: {url}/ui/audits/{audit_id}" in done.stderr
    assert "<failure" in files["xml"].read_text()
    assert "fail" in files["md"].read_text()
    for form, name in (("json", "json"), ("html", "html"), ("junit", "xml"), ("md", "md")):
        again = folder / "again"
        fetched = run("report", audit_id, "--format", form, "--out", again)
        assert fetched.exit_code == 0, fetched.output
        assert again.read_bytes() == files[name].read_bytes(), form
    table = list(csv.DictReader(io.StringIO(run("report", audit_id, "--format", "csv").stdout)))
    assert {row["metric"] for row in table} >= {"lerf_auc", "rao_auc"}
    values = list(csv.DictReader(io.StringIO(run("report", audit_id, "--format", "csv", "--per-image").stdout)))
    assert len(values) == 2 * len(table)
    assert {row["name"] for row in values} == {"0.png", "1.png"}


def test_a_failed_and_a_cancelled_audit_leave_files_that_say_why(settings: Settings, url: str, folder: Path) -> None:
    (folder / "photos" / "0.png").write_bytes(b"no image")
    forms = ("--junit", folder / "r.xml", "--markdown", folder / "r.md", "--out", folder / "r.json")
    with working(settings):
        failed = run("submit", folder / "request.json", "--images", folder / "photos" / "0.png", "--wait", *forms)
    assert failed.exit_code == 2, failed.output
    assert "no_usable_images" in failed.stderr
    assert "<error" in (folder / "r.xml").read_text()
    assert "no_usable_images" in (folder / "r.md").read_text()
    assert not (folder / "r.json").exists()

    (folder / "r.xml").unlink()
    cancelled = submit(url)
    assert run("cancel", cancelled).stdout.splitlines()[-1] == f"{cancelled} cancelled"
    watched = run("watch", cancelled, "--junit", folder / "r.xml")
    assert watched.exit_code == 2, watched.output
    assert f"audit {cancelled} was cancelled" in watched.stderr
    assert "cancelled" in (folder / "r.xml").read_text()


def test_watch_exits_by_the_worst_verdict(settings: Settings, url: str) -> None:
    too_few = [FAILS[0] | {"at_least": -1.0, "min_images": 9}]
    fails, nothing, open_ = (
        submit(url, policy=FAILS),
        submit(url),
        submit(url, policy=too_few),
    )
    with working(settings):
        done = run("watch", nothing, open_)
        assert done.exit_code == 3, done.output
        assert f"{nothing} not_evaluated" in done.stdout
        assert f"{open_} inconclusive" in done.stdout
        assert run("watch", fails, open_, nothing).exit_code == 1
        assert run("watch", fails, "unknown", nothing).exit_code == 2
        one = run("watch", fails)
    assert (one.exit_code, "verdict: fail" in one.stdout) == (1, True), one.output
    several = run("watch", fails, nothing, "--junit", "x.xml")
    assert several.exit_code == 2
    assert "--junit is for one audit" in several.stderr


def test_list_and_status_find_what_is_asked_for(settings: Settings, url: str) -> None:
    first = submit(url, name="nightly", tags={"stage": "a:b"}, policy=FAILS)
    second = submit(url)
    assert ids_in(run("list").stdout) == [second, first]
    assert ids_in(run("list", "--limit", "1").stdout) == [second]
    for filters in (("--tag", "stage:a:b"), ("--name", "nightly")):
        assert ids_in(run("list", *filters).stdout) == [first]
    assert "queued" in run("list", "--state", "queued").stdout
    assert run("list", "--state", "running").stdout == "no audit matches\n"
    waiting = run("status", first)
    assert (waiting.exit_code, "state: queued, 0% of the work done" in waiting.stdout) == (0, True), waiting.output
    with working(settings):
        run("watch", first)
    listed = json.loads(run("list", "--verdict", "fail", "--json").stdout)
    assert [(one["id"], one["tags"]) for one in listed] == [(first, {"stage": "a:b"})]
    with Client(url) as client:
        digest = client.report(first).audited_models[0].digest
    assert first in [one["id"] for one in json.loads(run("list", "--model", digest, "--json").stdout)]
    assert run("list", "--model", f"sha256:{0:064}").stdout == "no audit matches\n"
    ended = run("status", first)
    assert (ended.exit_code, "verdict: fail" in ended.stdout) == (0, True), ended.output
    assert f"page: {url}/ui/audits/{first}" in ended.stdout
    assert json.loads(run("status", first, "--json").stdout)["verdict"] == "fail"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "unknown"), "there is no audit 'unknown'"),
        (("cancel", "unknown"), "there is no audit 'unknown'"),
        (("report", "unknown"), "there is no audit 'unknown'"),
        (("watch", "unknown"), "there is no audit 'unknown'"),
        (("report", "unknown", "--per-image"), "--format csv"),
        (("list", "--tag", "stage"), "KEY:VALUE"),
        (("list", "--model", "sha256:0"), "model"),
        (("report", "unknown", "--out", "/no/such/folder/report.json"), "there is no folder"),
    ],
)
def test_a_mistake_says_how_to_fix_it(url: str, arguments: tuple[str, ...], words: str) -> None:
    assert url
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.stderr.split())
