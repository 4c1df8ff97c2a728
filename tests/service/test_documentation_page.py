"""`/docs` shows the interface without the internet."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.routes.documentation import PAGE, START
from auditcore_service.settings import Settings
from auditcore_service.startup import listen

SWAGGER_UI = Path(str(files("auditcore_service.gateway").joinpath("swagger_ui")))


def test_the_vendored_files_are_those_that_were_published() -> None:
    source = json.loads((SWAGGER_UI / "SOURCE.json").read_text())
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in SWAGGER_UI.iterdir()
        if path.name != "SOURCE.json"
    }
    assert found == source["sha256"]
    assert {"LICENSE", "NOTICE"} <= set(found)
    assert source["license"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", source["version"])


def test_the_page_names_nothing_outside_and_forbids_it(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    places = re.findall(r"""(?:src|href)="([^"]*)\"""", PAGE)
    assert places == [
        "data:,",
        "/docs/swagger-ui.css",
        "/openapi.json",
        "/docs/swagger-ui-bundle.js",
        "/docs/start.js",
    ]
    assert "://" not in PAGE + START
    assert "<script>" not in PAGE
    for place in places[1:]:
        found = client.get(place)
        assert found.status_code == 200, place
        assert found.content
    style = client.get("/docs/swagger-ui.css")
    assert style.headers["content-type"].startswith("text/css")
    assert set(re.findall(rb"url\(\s*['\"]?(.{5})", style.content)) == {b"data:"}
    for answer in (page, style):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_other_pages_are_not_offered(client: TestClient) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect", "/docs/SOURCE.json", "/docs/../settings.py"):
        assert client.get(path).status_code in {404, 422}, path


@pytest.fixture
def address(make_settings: Callable[..., Settings]) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(make_settings()), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.mark.long
@pytest.mark.slow
def test_a_browser_shows_every_operation(address: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on PATH")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{address}/docs",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    document = httpx.get(f"{address}/openapi.json").json()
    shown = done.stdout.count('class="opblock-summary-path"')
    assert shown == sum(len(methods) for part in ("paths", "webhooks") for methods in document[part].values())
    assert "Content Security Policy" not in done.stderr
