"""What the command line shows a service, what it says about it, and that it never shows the secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

import commands_in_process
from auditcore.client import Client, NamedImage
from auditcore_service.cli.credentials import token_source
from auditcore_service.cli.outcome import CommandError
from auditcore_service.gateway.routes.audit_examples import STATUS_EXAMPLE
from auditcore_service.gateway.routes.models import INSPECTION_EXAMPLE
from auditcore_service.settings import unknown_variables
from auditcore_service.use_cases.api_key_secrets import new_secret
from command_line import run
from running_service import LOG, serving

SECRET = new_secret().text
REQUEST = {
    "model": {"kind": "demo"},
    "images": {"kind": "batch", "digest": f"sha256:{0:064}"},
    "plan": {"preset": "quick"},
}


DIGEST = f"sha256:{0:064}"
ANSWERS: dict[str, Any] = {
    "/v1/image-batches": {"digest": DIGEST, "images": 1, "size_bytes": 1, "entries": []},
    "/v1/maps": {"digest": DIGEST},
    "/v1/audits": STATUS_EXAMPLE,
    "/v1/estimates": {"estimate": STATUS_EXAMPLE["estimate"], "within_budget": True},
    "/v1/models:inspect": INSPECTION_EXAMPLE,
    "/v1/audits/a": STATUS_EXAMPLE | {"state": "succeeded"},
    "/v1/audits/a/report": {},
    "/v1/audits/a/cancel": STATUS_EXAMPLE,
    "/v1/log": {"items": [], "next_after": None},
}


def problem(status: int, code: str, detail: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "T", "detail": detail, "code": code, "errors": []})


def client_of(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> AbstractContextManager[Client]:
    return commands_in_process.client_of(httpx.MockTransport(answer), **options)


def test_every_call_carries_the_token_and_no_line_shows_it(tmp_path: Path) -> None:
    asked: list[httpx.Request] = []
    lines: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=ANSWERS[request.url.path])

    maps = tmp_path / "maps"
    maps.write_bytes(b"x")
    with client_of(answer, token=token_source(SECRET, None), narrate=lines.append) as client:
        client.upload(NamedImage("a.png", b"x"))
        client.upload_maps(maps)
        client.submit(REQUEST)
        client.estimate(REQUEST)
        client.inspect({"model": {"kind": "demo"}})
        client.wait("a")
        client.report_as("a", "html")
        client.cancel("a")
        list(client.log())
    assert len(asked) == len(lines) == 9
    assert {request.headers["authorization"] for request in asked} == {f"Bearer {SECRET}"}
    assert all(line.startswith('curl -H "Authorization: Bearer $AUDIT_TOKEN" ') for line in lines)
    assert SECRET not in "".join(lines)


def test_without_a_token_nothing_is_sent_and_the_lines_are_plain() -> None:
    lines: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json=STATUS_EXAMPLE)

    with client_of(answer, token=token_source(None, None), narrate=lines.append) as client:
        client.submit(REQUEST)
    assert lines[0].startswith("curl -H 'Content-Type: application/json' -d ")


def test_a_token_does_not_follow_a_redirect_to_another_host() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"Location": "http://thief.example/v1/estimates"})

    with pytest.raises(CommandError), client_of(answer, token=lambda: SECRET) as client:
        client.estimate(REQUEST)
    assert asked == ["testserver"]


def test_a_file_is_read_again_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    source = token_source(None, path)
    assert source is not None
    assert source() == SECRET
    path.write_text("renewed")
    assert source() == "renewed"


@pytest.mark.parametrize("text", ["", " \n", "two words", "a\nb", "ac_\xe9", "a\x00b"])
def test_what_cannot_be_a_token_is_refused_unseen(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    for given in ((text, None), (None, path)):
        with pytest.raises(CommandError, match="holds no API key or token") as raised:
            token_source(*given)
        assert not text.strip() or text not in str(raised.value)


def test_a_file_that_is_missing_and_two_sources_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="AUDIT_TOKEN_FILE"):
        token_source(None, tmp_path / "none")
    with pytest.raises(CommandError, match="only one"):
        token_source(SECRET, tmp_path / "none")


@pytest.mark.parametrize(
    ("token", "answer", "words"),
    [
        (None, problem(401, "credentials_missing", "send it"), "AUDIT_TOKEN or --token-file"),
        (SECRET, problem(401, "credentials_invalid", "it expired"), "it expired; check the token"),
        (SECRET, problem(403, "scope_missing", "the scope audits:write"), "the scope audits:write"),
        (None, httpx.Response(401, text="a proxy"), "AUDIT_TOKEN or --token-file"),
    ],
    ids=["none", "expired", "no scope", "proxy"],  # the same names in every process
)
def test_a_refusal_says_what_to_do(token: str | None, answer: httpx.Response, words: str) -> None:
    with pytest.raises(CommandError) as raised, client_of(lambda _: answer, token=token_source(token, None)) as client:
        client.estimate(REQUEST)
    assert words in str(raised.value)
    assert SECRET not in str(raised.value)


def test_variables_of_the_client_are_no_mistakes() -> None:
    assert unknown_variables(["AUDIT_TOKEN", "AUDIT_TOKEN_FILE", "AUDIT_TOKENS"]) == {"AUDIT_TOKENS": "AUDIT_TOKEN"}


def test_a_service_with_authentication_from_the_first_key_to_a_verified_log(tmp_path: Path) -> None:
    """As an operator and a pipeline use it: a real process, and keys that are made while it runs."""
    request = tmp_path / "request.json"
    request.write_text(json.dumps(REQUEST))

    def make(*arguments: str) -> str:
        done = run("keys", *arguments, "--data", tmp_path / "data")
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    with serving(tmp_path, AUDIT_AUTHENTICATION="required", AUDIT_QUEUE="database") as service:
        log = (tmp_path / LOG).read_text()
        assert "auditcore keys create NAME --role admin" in log
        url = str(service.base_url).rstrip("/")
        assert service.get("/v1/audits").status_code == 401
        refused = run("estimate", request, "--url", url)
        assert refused.exit_code == 2
        assert "AUDIT_TOKEN" in refused.stderr

        pipeline, reader = (
            make("create", "nightly", "--role", "pipeline"),
            make("create", "auditor", "--role", "reader"),
        )
        assert re.fullmatch(r"ac_\w{8}_\w{49}", pipeline)
        told = run("submit", request, "--url", url, "--token", pipeline, "--verbose")
        assert "upload it with POST /v1/image-batches" in told.stderr, (
            "a pipeline may submit, but this batch is not stored"
        )
        assert '-H "Authorization: Bearer $AUDIT_TOKEN"' in told.stderr
        assert pipeline not in told.output
        lacking = run("verify-log", "--url", url, "--token", pipeline)
        assert lacking.exit_code == 2
        assert "log:read" in lacking.stderr
        (tmp_path / "token").write_text(reader)
        verified = run("verify-log", "--url", url, "--token-file", tmp_path / "token")
        assert (verified.exit_code, verified.stdout) == (0, "the log holds: 3 entries\n"), verified.output
        make("revoke", pipeline[:11])
        again = run("submit", request, "--url", url, "--token", pipeline)
        assert again.exit_code == 2
        assert "was revoked" in again.stderr
    listed = json.loads(make("list", "--json"))
    used = {one["name"]: one["last_used_at"] is not None for one in listed}
    assert used == {"nightly": True, "auditor": True}
    assert pipeline not in (tmp_path / LOG).read_text()
