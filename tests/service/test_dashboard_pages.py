"""Every page of the dashboard, without a browser: what it shows, what it offers, and that nothing in it runs."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

import digits
import made_up_audits
from auditcore.contracts.report import AuditReport
from auditcore.contracts.studies.report import StudyReport
from auditcore.report.serialize import report_bytes
from auditcore.studies.tables import in_markdown, study_tables
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.dashboard import report_digests
from auditcore_service.gateway.dashboard.audit_list import ON_A_PAGE
from auditcore_service.gateway.dashboard.page_headers import CONTENT_SECURITY_POLICY
from auditcore_service.gateway.dashboard.report_digests import ReportDigests
from auditcore_service.gateway.dashboard.texts import number
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from dashboard_audits import HOSTILE, fill, hostile, settings_for, store_images, study, submit, training
from service_experiments import ROAR, TRAINING, failed_audit, remedy_of, request_of, store_digits, study_body
from two_tenants import work

NO_AUDITS = {"training", "study"}
"""Jobs of other kinds."""

EXPERIMENTS = ("/ui/experiments", "/ui/experiments/{study}")

DASHBOARD = Path(str(files("auditcore_service.gateway.dashboard").joinpath("")))


class Filled(NamedTuple):
    """A gateway with audits in every state."""

    client: TestClient
    service: Service
    folder: Path
    ids: dict[str, str]

    def text(self, path: str, status: int = 200) -> str:
        """A page, as a browser asks for it."""
        answer = self.client.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status, answer.text
        return answer.text


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("dashboard")
    with TestClient(create_app(settings_for(folder))) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        ids = fill(service, folder)
        ids |= {"hostile": hostile(service, folder), "training": training(service), "study": study(service)}
        yield Filled(client, service, folder, ids)


class Parts(HTMLParser):
    """The elements of a page, and the scripts that stand in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.inline += data.strip()


def pages_of(ids: dict[str, str]) -> list[str]:
    """The address of every page."""
    return [
        "/ui/audits",
        "/ui/audits?state=succeeded&tag=model:digits",
        *(f"/ui/audits/{one}" for name, one in ids.items() if name not in NO_AUDITS),
        f"/ui/audits/{ids['waiting']}/row",
        f"/ui/compare?first={ids['passed']}&second={ids['failed']}",
        f"/ui/compare?first={ids['hostile']}&second={ids['elsewhere']}",
        "/ui/history",
        "/ui/history?tag=model:digits",
        "/ui/new",
        f"/ui/new?from={ids['hostile']}",
        "/ui/policies",
        "/ui/policies/quick-look@1.0.0",
        "/ui/policies/new",
        "/ui/trainings",
        f"/ui/trainings/{ids['training']}",
        "/ui/experiments",
        f"/ui/experiments/{ids['study']}",
        "/ui/keys",
        "/ui/health",
    ]


def test_nothing_on_any_page_can_run_and_nothing_comes_from_elsewhere(filled: Filled) -> None:
    for path in pages_of(filled.ids):
        answer = filled.client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, path
        assert answer.headers["Cache-Control"] == "no-store", path
        parts = Parts()
        parts.feed(answer.text)
        for tag, attributes in parts.found:
            assert tag not in {"img", "style", "iframe", "object", "base"}, path
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
            if tag == "script":
                assert str(attributes.get("src")).startswith("/ui/static/"), path
            if tag == "link":
                assert str(attributes.get("href")).startswith(("/ui/static/", "data:,")), path
            if tag == "a":
                assert str(attributes.get("href")).startswith(("/", "#content")), path
        assert not parts.inline, path
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


@pytest.mark.parametrize(
    "place", ["/ui/audits", "/ui/audits/{hostile}", "/ui/history", "/ui/trainings", *EXPERIMENTS, "/ui/audits/{passed}"]
)
def test_hostile_texts_are_shown_as_they_are(filled: Filled, place: str) -> None:
    text = filled.text(place.format(**filled.ids))
    assert "&lt;img src=x onerror" in text
    assert "&lt;script&gt;document.title" in text
    assert HOSTILE not in text


def test_the_list_shows_each_audit_and_filters_as_the_api_does(filled: Filled) -> None:
    text = filled.text("/ui/audits")
    for name, one in filled.ids.items():
        assert (f'href="/ui/audits/{one}"' in text) == (name not in NO_AUDITS)
    assert text.index(filled.ids["waiting"]) < text.index(filled.ids["passed"])
    for query, expected in {
        "verdict=fail": {"failed", "hostile"},
        "verdict=warn&tag=model:digits": {"warned"},
        "state=cancelled": {"cancelled"},
        "name=digits+v3": {"passed"},
        "tag=pipeline:nightly&state=queued": {"waiting"},
    }.items():
        found = set(re.findall(r'<tr data-job="([^"]*)"', filled.text(f"/ui/audits?{query}")))
        assert found == {filled.ids[name] for name in expected}, query
    report = AuditReport.model_validate_json(filled.service.audits.report(ANONYMOUS, filled.ids["failed"]))
    assert report.model is not None
    assert filled.ids["failed"] in filled.text(f"/ui/audits?model={report.model.digest}")
    # an empty field of the form is no filter
    assert filled.ids["passed"] in filled.text("/ui/audits?name=&verdict=&state=&tag=&model=")
    assert "No audit fits" in filled.text("/ui/audits?name=nowhere")


@pytest.mark.parametrize("query", ["state=done", "verdict=bad", "tag=nocolon", "model=abc", "colour=red"])
def test_a_filter_that_cannot_hold_is_refused_with_its_name(filled: Filled, query: str) -> None:
    text = filled.text(f"/ui/audits?{query}", 422)
    assert "<h1>Unprocessable Content</h1>" in text
    assert query.partition("=")[0] in text


def test_the_list_goes_on_where_it_ended(tmp_path: Path) -> None:
    with TestClient(create_app(settings_for(tmp_path))) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        assert "No audits yet" in client.get("/ui/audits").text
        batch = store_images(service, ANONYMOUS)
        weights = digits.write_weights(tmp_path)
        made = [submit(service, batch, weights, name="same") for _ in range(ON_A_PAGE + 3)]
        first = client.get("/ui/audits?name=same").text
        older = re.search(r'href="([^"]*)" rel="next"', first)
        assert older is not None
        assert "name=same" in older[1]
        second = client.get(older[1].replace("&amp;", "&")).text
        seen = [re.findall(r'<tr data-job="([^"]*)"', page) for page in (first, second)]
        assert [len(one) for one in seen] == [ON_A_PAGE, 3]
        assert [*seen[0], *seen[1]] == made[::-1]
        assert 'rel="next"' not in second


def test_a_finished_audit_says_what_decided_and_offers_its_files(filled: Filled) -> None:
    audit_id = filled.ids["failed"]
    text = filled.text(f"/ui/audits/{audit_id}")
    assert "faithful_grad_cam is" in text
    assert "wanted at least 0.9" in text
    assert "95 % interval" in text
    for form, media_type in {
        "json": "application/json",
        "junit": "application/junit+xml",
        "markdown": "text/markdown",
    }.items():
        assert f"/ui/audits/{audit_id}/report.{form}" in text
        file = filled.client.get(f"/ui/audits/{audit_id}/report.{form}")
        api = filled.client.get(f"/v1/audits/{audit_id}/report", headers={"Accept": media_type})
        assert file.content == api.content
        assert file.headers["Content-Disposition"].startswith("attachment; filename=")
    page = filled.client.get(f"/ui/audits/{audit_id}/report")
    api = filled.client.get(f"/v1/audits/{audit_id}/report", headers={"Accept": "text/html"})
    assert page.content == api.content
    assert page.headers["Content-Security-Policy"] == api.headers["Content-Security-Policy"]
    assert page.headers["Content-Security-Policy"] != CONTENT_SECURITY_POLICY
    assert page.headers["Cache-Control"] == file.headers["Cache-Control"] == "no-store"
    assert filled.client.get(f"/ui/audits/{audit_id}/report.exe").status_code == 406
    # without a signing key there is no evidence to offer
    assert "/evidence" not in text
    assert filled.client.get(f"/ui/audits/{audit_id}/evidence").status_code == 404


def test_an_audit_can_be_repeated_by_its_command(filled: Filled) -> None:
    text = filled.text(f"/ui/audits/{filled.ids['failed']}")
    found = re.search(r'<pre id="request"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert found is not None
    document = json.loads(found[1].replace("&#34;", '"').replace("&#39;", "'"))
    assert document == json.loads(filled.service.audits.get(ANONYMOUS, filled.ids["failed"]).request)
    command = re.search(r'<pre id="command"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert command is not None
    assert "/v1/audits &lt;&lt;&#39;JSON&#39;" in command[1]
    # no sign that turns the direction of a text is in what is copied
    assert "\u202e" not in filled.text(f"/ui/new?from={filled.ids['hostile']}").partition('id="equivalent"')[2]


def test_a_failed_audit_says_why_and_where(filled: Filled) -> None:
    (filled.folder / "gone").mkdir(exist_ok=True)
    weights = digits.write_weights(filled.folder / "gone")
    audit_id = submit(filled.service, store_images(filled.service, ANONYMOUS), weights, name="gone")
    weights.write_bytes(b"other")
    assert work(filled.service, audit_id).state == "failed"
    text = filled.text(f"/ui/audits/{audit_id}")
    assert "Why it failed" in text
    assert "digest_mismatch" in text
    assert "model.weights" in text
    assert "Open the full report" not in text
    filled.service.deletions.audit(ANONYMOUS, audit_id)
    assert "was deleted" in filled.text(f"/ui/audits/{audit_id}", 410)


def test_a_comparison_is_paired_image_by_image(filled: Filled) -> None:
    first, second = filled.ids["failed"], filled.ids["passed"]
    before, after = (
        next(
            row
            for row in AuditReport.model_validate_json(filled.service.audits.report(ANONYMOUS, one)).results
            if (row.explainer, row.metric) == ("gradient", "inter_model_deletion")
        )
        for one in (first, second)
    )
    pairs = [b - a for a, b in zip(before.per_image, after.per_image, strict=True) if a is not None and b is not None]
    text = filled.text(f"/ui/compare?first={first}&second={second}")
    assert "Both used <strong>10</strong> of the same images" in text
    row = text.partition("<bdi>gradient</bdi>")[2].partition("</tr>")[0]
    assert f"{sum(pairs) / len(pairs):.3f}" in row
    assert "faithful_gradient" in text
    assert "not judged" in text


def test_without_shared_images_there_is_no_difference(filled: Filled) -> None:
    text = filled.text(f"/ui/compare?first={filled.ids['elsewhere']}&second={filled.ids['passed']}")
    assert "The audits share no image" in text
    assert "trend" not in text
    assert "not_ready" not in text
    waiting = filled.client.get(f"/ui/compare?first={filled.ids['waiting']}&second={filled.ids['passed']}")
    assert waiting.status_code == 404
    assert "has no report" in waiting.text


def test_the_history_has_every_number_of_its_chart(filled: Filled) -> None:
    text = filled.text("/ui/history?tag=model:digits&series=deletion|gradient|inter_model_deletion|")
    rows = re.findall(r"<tr data-time.*?</tr>", text, re.DOTALL)
    assert [filled.ids[name] in row for name, row in zip(("failed", "warned", "passed"), rows, strict=True)] == [
        True
    ] * 3
    for name, row in zip(("failed", "warned", "passed"), rows, strict=True):
        report = AuditReport.model_validate_json(filled.service.audits.report(ANONYMOUS, filled.ids[name]))
        result = next(
            one for one in report.results if (one.explainer, one.metric) == ("gradient", "inter_model_deletion")
        )
        assert result.ci is not None
        assert f'data-mean="{result.mean}"' in row
        assert f'data-low="{result.ci[0]}" data-high="{result.ci[1]}"' in row
        assert 'data-least="0.0"' in row
        assert f'data-verdict="{report.verdict}"' in row
    other = filled.text("/ui/history?tag=model:digits&series=deletion|grad_cam|inter_model_deletion|")
    assert other.count('data-least="0.9"') == 2
    by_model = filled.text("/ui/history?model=factory+digits:build")
    assert filled.ids["elsewhere"] in by_model
    assert "Nothing to draw" in filled.text("/ui/history?tag=model:nowhere")


def test_buttons_do_what_the_api_does(filled: Filled) -> None:
    batch = store_images(filled.service, ANONYMOUS)
    audit_id = submit(filled.service, batch, digits.write_weights(filled.folder))
    answer = filled.client.post(f"/ui/audits/{audit_id}/cancel", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ui/audits/{audit_id}")
    assert filled.service.audits.get(ANONYMOUS, audit_id).state == "cancelled"
    again = filled.client.post(f"/ui/audits/{audit_id}/cancel?back=list", follow_redirects=False)
    assert again.headers["Location"] == "/ui/audits"
    replayed = filled.client.post(f"/ui/audits/{filled.ids['passed']}/replay", follow_redirects=False)
    replay = replayed.headers["Location"].rpartition("/")[2]
    assert filled.service.audits.get(ANONYMOUS, replay).replay_of == filled.ids["passed"]
    refused = filled.client.post(f"/ui/audits/{replay}/delete")
    assert refused.status_code == 409
    assert "cancel it first" in refused.text
    filled.service.audits.cancel(ANONYMOUS, replay)
    assert filled.client.post(f"/ui/audits/{replay}/delete", follow_redirects=False).status_code == 303
    assert filled.client.get(f"/v1/audits/{replay}").status_code == 410


def test_progress_of_several_audits_comes_in_one_stream(filled: Filled) -> None:
    done, cancelled = filled.ids["passed"], filled.ids["cancelled"]
    answer = filled.client.get(f"/ui/audits/events?id={done}&id={cancelled}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line) for line in re.findall(r"^data: (.+)$", answer.text, re.MULTILINE)]
    assert {one["id"]: one["state"] for one in told if one} == {done: "succeeded", cancelled: "cancelled"}
    assert all(one["ended"] for one in told if one)
    assert answer.text.rstrip().endswith("data: {}")
    assert "event: end" in answer.text
    assert filled.client.get("/ui/audits/events?id=nope").status_code == 404
    assert filled.client.get("/ui/audits/events").status_code == 422


def test_trainings_are_listed_and_cancelled(filled: Filled) -> None:
    one = filled.ids["training"]
    assert f"/ui/trainings/{one}/cancel" in filled.text(f"/ui/trainings/{one}")
    other = training(filled.service)
    assert filled.client.post(f"/ui/trainings/{other}/cancel", follow_redirects=False).status_code == 303
    assert "Nothing of it is kept" in filled.text(f"/ui/trainings/{other}")
    done = training(filled.service)
    assert work(filled.service, done).state == "succeeded"
    text = filled.text(f"/ui/trainings/{done}")
    assert "<h2>Epochs</h2>" in text
    assert "blob:sha256:" in text
    file = filled.client.get(f"/ui/trainings/{done}/report.json")
    assert file.json()["training_id"] == done


def test_experiments_are_listed_and_cancelled(filled: Filled) -> None:
    waiting = filled.ids["study"]
    listed = filled.text("/ui/experiments")
    assert f'href="/ui/experiments/{waiting}"' in listed
    assert 'data-label="Kind">study<' in listed
    assert "0 of 4 stages done" in filled.text(f"/ui/experiments/{waiting}")
    other = study(filled.service)
    assert filled.client.post(f"/ui/experiments/{other}/cancel", follow_redirects=False).status_code == 303
    assert "The experiment was cancelled" in filled.text(f"/ui/experiments/{other}")
    events = filled.client.get(f"/ui/experiments/events?id={other}")
    assert events.headers["Content-Type"].startswith("text/event-stream")
    assert f'"id": "{other}", "state": "cancelled"' in events.text
    assert events.text.rstrip().endswith("event: end\ndata: {}")
    # one that goes on is cancelled where its progress is shown
    assert f'action="/ui/experiments/{waiting}/cancel"' in filled.text(f"/ui/experiments/{waiting}")
    # the id of a training is none of an experiment
    assert "there is no experiment" in filled.text(f"/ui/experiments/{filled.ids['training']}", 404)


def test_a_finished_study_shows_its_tables_and_its_files(filled: Filled) -> None:
    done = study(filled.service)
    assert work(filled.service, done).state == "succeeded"
    text = filled.text(f"/ui/experiments/{done}")
    assert "2 methods, with 1 seed each" in text
    report = StudyReport.model_validate_json(filled.client.get(f"/ui/experiments/{done}/report.json").content)
    tables = filled.client.get(f"/ui/experiments/{done}/files/tables.md")
    assert tables.headers["Content-Disposition"] == "attachment"
    assert tables.headers["Cache-Control"] == "no-store"
    for title, _, columns, rows in study_tables(report):
        assert f"<caption>{escape(title.replace('`', ''))} <" in text
        assert all(f"<bdi>{column}</bdi></th>" in text for column in columns)
        assert "".join(f'<td class="number">{cell}</td>' for cell in rows[-1][1:]) in text
    assert tables.text == in_markdown(study_tables(report))
    weights = f"/ui/experiments/{done}/files/weights/mixup-3.safetensors"
    assert f'href="{weights}"' in text
    assert filled.client.get(weights).content == filled.client.get(weights.replace("/ui", "/v1")).content
    assert "has no file" in filled.text(f"/ui/experiments/{done}/files/nothing", 404)


def test_a_finished_remedy_shows_the_conditions_before_and_after(filled: Filled) -> None:
    audit = failed_audit(filled.service, lambda: None)
    assert work(filled.service, audit).state == "succeeded"
    remedy = remedy_of(audit, store_digits(filled.service, 0, TRAINING))
    done = filled.service.experiments.submit(ANONYMOUS, request_of(remedy)).id
    listed = filled.text("/ui/experiments")
    assert f"<bdi>that of audit {audit[:8]}</bdi>" in listed
    assert work(filled.service, done).state == "succeeded"
    text = filled.text(f"/ui/experiments/{done}")
    report = filled.client.get(f"/v1/experiments/{done}/report").json()
    assert escape(report["summary"]) in text
    assert f'href="/ui/audits/{audit}"' in text
    assert text.count("✗</span> failed") == 2 * len(report["conditions"])
    assert "✓ chosen" in text
    assert escape(report["model"]["weights"]["uri"]) in text


def test_a_finished_measure_shows_what_each_explainer_has_got(filled: Filled) -> None:
    body = study_body(filled.service)
    del body["test"]
    body["plan"] = ROAR
    done = filled.service.experiments.submit(ANONYMOUS, request_of(body)).id
    assert work(filled.service, done).state == "succeeded"
    text = filled.text(f"/ui/experiments/{done}")
    (result, *_) = filled.client.get(f"/v1/experiments/{done}/report").json()["results"]
    assert f"<bdi>{result['explainer']}</bdi>" in text
    assert f'<td class="number">{number(result["area"]["mean"])}</td>' in text


def test_an_address_without_a_page_has_one_that_says_so(filled: Filled) -> None:
    text = filled.text("/ui/nothing", 404)
    assert 'href="/ui"' in text
    assert filled.client.get("/ui/nothing").headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    # elsewhere programs ask
    assert filled.client.get("/v1/nothing").headers["Content-Type"] == "application/problem+json"


def test_a_policy_is_checked_and_stored_by_the_form(filled: Filled) -> None:
    document = {
        "name": "form",
        "version": "1.0.0",
        "description": HOSTILE,
        "conditions": [{"check": "sweep", "explainer": "grad_cam", "metric": "s_pearson", "at_least": 0.5}],
    }
    advice = filled.client.post("/ui/policies/new", data={"document": json.dumps(document), "action": "lint"})
    assert "add a condition on faithfulness" in advice.text
    assert filled.client.get("/v1/policies/form@1.0.0").status_code == 404
    for text, message in (
        ("{", "this is not JSON"),
        (json.dumps(document | {"conditions": [{"check": 1}]}), "#/conditions/0/check"),
        (json.dumps(document | {"name": "quick-look"}), "belongs to a policy that comes with auditcore"),
    ):
        refused = filled.client.post("/ui/policies/new", data={"document": text, "action": "store"})
        assert refused.status_code in {409, 422}
        assert message in refused.text
        assert "Nothing was stored" in refused.text
    stored = filled.client.post("/ui/policies/new", data={"document": json.dumps(document), "action": "store"})
    assert "form@1.0.0" in stored.text
    assert "&lt;img src=x onerror" in stored.text
    assert filled.client.get("/v1/policies/form@1.0.0").status_code == 200
    assert ">form@1.0.0<" in filled.text("/ui/policies")


def test_a_secret_is_shown_once(filled: Filled) -> None:
    made = filled.client.post("/ui/keys", data={"name": "form", "scopes": ["audits:read"], "days": "30"})
    assert made.status_code == 201
    secret = re.search(r'<pre id="secret"[^>]*>(ac_[^<]+)</pre>', made.text)
    assert secret is not None
    assert made.headers["Cache-Control"] == "no-store"
    listed = filled.text("/ui/keys")
    assert secret[1] not in listed
    (key,) = filled.service.api_keys.page(ANONYMOUS, cursor=None, limit=9)[0]
    assert key.scopes == ("audits:read",)
    assert key.expires_at is not None
    rotated = filled.client.post(f"/ui/keys/{key.id}/rotate")
    assert "ac_" in rotated.text
    assert secret[1] not in rotated.text
    filled.client.post(f"/ui/keys/{key.id}/revoke")
    assert "revoked" in filled.text("/ui/keys")
    again = filled.client.post("/ui/keys", data={"name": "form", "scopes": ["audits:read"], "days": ""})
    assert again.status_code == 409
    assert "choose another name" in again.text
    empty = filled.client.post("/ui/keys", data={"name": "two words", "days": ""})
    assert empty.status_code == 422
    assert "No key was made" in empty.text


def test_health_says_what_answers_and_what_waits(filled: Filled) -> None:
    text = filled.text("/ui/health")
    for part in ("database", "queue", "blobs"):
        assert f"<strong>{part}</strong>" in text
    assert "Shards wait and none is computed" in text
    assert "Passes today" in text


def test_a_browser_is_led_to_the_dashboard_and_a_program_is_not(filled: Filled) -> None:
    for path in ("/", "/ui"):
        answer = filled.client.get(path, headers={"Accept": "text/html,*/*;q=0.8"}, follow_redirects=False)
        assert answer.status_code == 303, path
    assert filled.client.get("/ui", follow_redirects=False).headers["Location"] == "/ui/audits"
    program = filled.client.get("/", headers={"Accept": "*/*"})
    assert (program.status_code, program.json()["code"]) == (404, "not_found")


def test_the_dashboard_is_no_part_of_the_interface(filled: Filled) -> None:
    document = filled.client.get("/openapi.json").json()
    assert not [path for path in document["paths"] if path.startswith("/ui") or path == "/"]


@pytest.mark.parametrize(("folder", "kept"), [("htmx", "0BSD"), ("uplot", "MIT")])
def test_the_vendored_files_are_those_that_were_published(folder: str, kept: str) -> None:
    source: dict[str, Any] = json.loads((DASHBOARD / folder / "SOURCE.json").read_text())
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (DASHBOARD / folder).iterdir()
        if path.name != "SOURCE.json"
    }
    assert found == source["sha256"]
    assert "LICENSE" in found
    assert source["license"] == kept


def test_only_files_that_pages_name_are_served(filled: Filled) -> None:
    for name in ("theme.css", "dashboard.css", "dashboard.js", "history.js", "htmx.min.js", "uPlot.min.css"):
        assert filled.client.get(f"/ui/static/{name}").status_code == 200, name
    for name in ("SOURCE.json", "../pages.py", "LICENSE"):
        assert filled.client.get(f"/ui/static/{name}").status_code in {404, 422}, name


def test_the_numbers_that_were_asked_for_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_digests, "_MOST_KEPT", 2)
    shard = made_up_audits.shard(None, {0: [1]}, made_up_audits.row("gradient", [0.5]))
    content = report_bytes(made_up_audits.report(shard))
    read: list[str] = []

    def reading(name: str) -> bytes:
        read.append(name)
        return content

    kept = ReportDigests()
    for name in ("first", "second", "first", "third", "first", "second"):
        kept.of("default", name, functools.partial(reading, name))
    assert read == ["first", "second", "third", "second"]
