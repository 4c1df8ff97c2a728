"""How long a submit takes under load: run with `make bench-gateway`.

A real gateway process on SQLite with its own Redis, and clients that send on a schedule whether or not earlier
answers have come (open loop), so that a slow answer does not hide the ones behind it. Latencies count from the
scheduled time. No worker runs: this is the price of accepting audits. After the load the gateway is killed with
SIGKILL, and every audit that it accepted must be in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from auditcore_service.embedded.redis_server import RedisServer
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.tables import AUDITS

START_S = 30.0
SYNC_PROBES = 50
GATEWAY = """
from auditcore_service.gateway.process import run
from auditcore_service.settings import Settings
run(Settings())
"""


def photo(seed: int) -> bytes:
    """A small PNG of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sync_ms(folder: Path) -> float:
    """What one small write that reaches the disk costs here, median, in milliseconds."""
    seconds = []
    with (folder / "probe").open("wb") as file:
        for _ in range(SYNC_PROBES):
            file.write(b"0" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return 1000 * sorted(seconds)[SYNC_PROBES // 2]


async def wait_until_ready(client: httpx.AsyncClient) -> None:
    """Return when the gateway answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            if (await client.get("/readyz")).is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            msg = "the gateway did not start"
            raise RuntimeError(msg)
        await asyncio.sleep(0.05)


async def load(url: str, *, per_s: float, seconds: float, keyed: bool) -> list[tuple[float, str]]:
    """Submit audits on schedule.

    Args:
        url: The gateway.
        per_s: Requests a second.
        seconds: How long.
        keyed: Whether each carries an Idempotency-Key of its own, as our command line sends it.

    Returns:
        For each request its latency in milliseconds, from its scheduled time, and the audit's id.
    """
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        await wait_until_ready(client)
        files = [("images", (f"{n}.png", photo(n), "image/png")) for n in range(16)]
        batch = (await client.post("/v1/image-batches", files=files)).raise_for_status().json()["digest"]
        body: dict[str, Any] = {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": batch},
            "plan": {"preset": "standard"},
        }

        async def one(due: float, number: int) -> tuple[float, str]:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            headers = {"Idempotency-Key": f"load-{number}"} if keyed else {}
            answer = (await client.post("/v1/audits", json=body, headers=headers)).raise_for_status()
            return 1000 * (time.perf_counter() - due), answer.json()["id"]

        # the first requests open connections and compile what is compiled lazily
        await asyncio.gather(*(one(time.perf_counter(), -1 - number) for number in range(10)))
        start = time.perf_counter() + 0.5
        return list(
            await asyncio.gather(*(one(start + number / per_s, number) for number in range(int(per_s * seconds))))
        )


def measure(folder: Path, *, per_s: float, seconds: float, keyed: bool) -> dict[str, Any]:
    """One gateway from start to kill."""
    redis = RedisServer(folder / "redis")
    redis.start()
    settings = Settings(data_dir=folder / "data", redis_url=SecretStr(redis.url), port=free_port(), log_json=True)
    with (folder / "gateway.log").open("wb") as log_file:
        gateway = subprocess.Popen(
            [sys.executable, "-c", GATEWAY], env={**os.environ, **settings.environment()}, stderr=log_file
        )
        try:
            process = psutil.Process(gateway.pid)
            answers = asyncio.run(load(f"http://127.0.0.1:{settings.port}", per_s=per_s, seconds=seconds, keyed=keyed))
            cpu = sum(process.cpu_times()[:2])
        finally:
            gateway.send_signal(signal.SIGKILL)
            gateway.wait()
            redis.stop()
    latencies = sorted(latency for latency, _ in answers)
    database = Database(settings.database)
    with database.reading("default") as connection:
        stored = {row.id for row in connection.execute(select(AUDITS.c.id))}
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        total = connection.execute(select(func.count()).select_from(AUDITS)).scalar_one()
    database.close()
    return {
        "requests": len(answers),
        "per_s": per_s,
        "keyed": keyed,
        "p50_ms": latencies[len(latencies) // 2],
        "p95_ms": latencies[int(0.95 * len(latencies))],
        "p99_ms": latencies[int(0.99 * len(latencies))],
        "max_ms": latencies[-1],
        "gateway_cpu_ms_each": 1000 * cpu / total,
        "lost_after_kill": len({audit_id for _, audit_id in answers} - stored),
        "journal": mode,
        "fsync_ms": sync_ms(folder),
    }


def main() -> None:
    """Measure, print a table and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-s", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for keyed in (False, True):
        with tempfile.TemporaryDirectory(prefix="gateway-load-") as folder:
            rows.append(measure(Path(folder), per_s=options.per_s, seconds=options.seconds, keyed=keyed))
    table = Table(title=f"POST /v1/audits on SQLite, {options.per_s:g} requests a second")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)
    if options.out is not None:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "rows": rows}
        options.out.write_text(json.dumps(machine, indent=2) + "\n")


if __name__ == "__main__":
    main()
