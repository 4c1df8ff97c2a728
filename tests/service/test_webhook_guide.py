"""The receiver of the guide on webhooks takes what the service sends, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

import markdown_blocks
from auditcore_service.gateway.app import create_app
from auditcore_service.settings import Settings

GUIDE = markdown_blocks.ROOT / "docs" / "how-to" / "receive-webhooks.md"


def test_the_receiver_of_the_guide_verifies_events(tmp_path: Path) -> None:
    (receiver,) = [block.text for block in markdown_blocks.blocks(GUIDE) if block.language == "python"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    settings = Settings(data_dir=tmp_path, queue="database", redis_url=None, webhook_prefixes=(url,))
    with TestClient(create_app(settings)) as client:
        created = client.post("/v1/webhooks", json={"url": url, "events": ["audit.succeeded"]}).json()
        environment = os.environ | {"WEBHOOK_SECRET": created["secret"], "PORT": str(port)}
        with subprocess.Popen(
            [sys.executable, "-c", receiver],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                _wait_for(port)
                sent = client.post(created["webhook"]["links"]["ping"]).json()
                assert process.stdout is not None
                said = process.stdout.readline()
                assert said.startswith(f"{sent['id']} ping {{'webhook_id': 'wh_"), said
                for headers in (
                    {},
                    {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "b"},
                ):
                    assert httpx.post(url, content="{}", headers=headers).status_code == 400
            finally:
                process.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
