"""What the service adds to an audit, and what a second worker takes away: run with `make bench-workers`.

Two embedded services stay up side by side, one with one worker and one with two, each worker with one thread; Redis,
SQLite, gateway and workers are the real ones, spoken to over HTTP. After a small audit that warms every worker, the
same audit runs on them in turn. Overhead is the part of the audit's wall time, from the POST until its state is
`succeeded`, that no shard computed, with one worker. The first shard's latency is the time from the POST until a worker
has claimed it.

Cores that share caches, memory or a hypervisor do not do twice as much when there are two, so the same ratio is
measured for bare processes that only pass images through the model: what the machine itself allows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from auditcore_service.cli.demo import PHOTOS, photo_path
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.settings import Settings

LOOK_S = 0.25
"""Pause between looks at an audit: 50 looks a second would cost the workers a quarter of a core."""

BARE_S = 8.0
BARE = f"""
import sys, time, torch
from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import DemoModel
from auditcore.models.loading import load_classifier
torch.set_num_threads(1)
classifier = load_classifier(DemoModel(), access=AccessRules(), device="cpu", blobs=None)
x = torch.rand(4, *classifier.shape).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    classifier.module(x)
    print("ready", flush=True)
    sys.stdin.readline()
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < {BARE_S}:
        classifier.module(x)
        images += len(x)
print(images / (time.perf_counter() - started), flush=True)
"""
"""A process that waits for a line and then passes images through the demo model, with one thread."""

MODEL = {"kind": "demo"}
WARM = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "edda", "keep": [0.2]}]}


def plan_of(repeats: int) -> dict[str, Any]:
    """A plan whose length follows from `repeats`."""
    return {
        "explainers": [{"kind": "gradient"}],
        "checks": [{"kind": "deletion", "grid": 7, "repeats": repeats}],
    }


def audit(client: httpx.Client, plan: dict[str, Any], digest: str) -> dict[str, float]:
    """One audit from the POST to its end.

    Returns:
        Seconds: `wall`, `shards` (their sum), `first_shard` (until it was claimed), `answer` (until the POST returned)
        and `estimated` (the answer's estimate of `shards`).
    """
    body = {"model": MODEL, "images": {"kind": "batch", "digest": digest}, "plan": plan}
    posted_at, started = time.time(), time.perf_counter()
    status = client.post("/v1/audits", json=body).raise_for_status().json()
    answered = time.perf_counter() - started
    path = status["links"]["self"]
    while status["state"] not in {"succeeded", "failed", "cancelled"}:
        time.sleep(LOOK_S)
        status = client.get(path).raise_for_status().json()
    wall = time.perf_counter() - started
    if status["state"] != "succeeded":
        msg = f"the audit {status['state']}: {status['error']}"
        raise RuntimeError(msg)
    cost = client.get(f"{path}/report").raise_for_status().json()["cost"]
    return {
        "wall": wall,
        "shards": cost["seconds"],
        "first_shard": datetime.fromisoformat(status["started_at"]).timestamp() - posted_at,
        "answer": answered,
        "estimated": cost["estimated_seconds"],
    }


def upload(client: httpx.Client, images: int) -> str:
    """Store a batch of the demo's photos, under different names so that each counts, and return its digest."""
    paths = [photo_path(package, path) for package, path in PHOTOS]
    files = [("images", (f"{n}-{paths[n % 4].name}", paths[n % 4].read_bytes())) for n in range(images)]
    digest: str = client.post("/v1/image-batches", files=files).raise_for_status().json()["digest"]
    return digest


def bare_images_per_s(processes: int) -> float:
    """Images a second of so many bare processes together."""
    running = [
        subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    # `communicate` would wait for each in turn
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Measure, print a table and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=1, help="Random orders of the deletion check.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        services = {
            count: EmbeddedService(
                Settings(
                    data_dir=Path(folder) / str(count),
                    port=0,
                    workers=count,
                    threads=1,
                    shard_images=max(1, options.images // 8),
                    device="cpu",
                    log_json=True,
                )
            )
            for count in (1, 2)
        }
        try:
            clients = {}
            for count, service in services.items():
                service.start()
                clients[count] = httpx.Client(base_url=service.base_url, timeout=60)
            digests = {count: upload(client, options.images) for count, client in clients.items()}
            for count, client in clients.items():
                audit(client, WARM, digests[count])
            for _ in range(options.rounds):
                alone, together = bare_images_per_s(1), bare_images_per_s(2)
                bare.append(together / alone)
                rows += [
                    {"workers": count, **audit(client, plan_of(options.repeats), digests[count])}
                    for count, client in clients.items()
                ]
        finally:
            for service in services.values():
                service.stop()
    table = Table(title=f"One audit over HTTP, {options.images} images, one thread a worker, seconds")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    one, two = ([row for row in rows if row["workers"] == count] for count in (1, 2))
    summary = {
        "ratio": statistics.median(a["wall"] / b["wall"] for a, b in zip(one, two, strict=True)),
        "bare_ratio": statistics.median(bare),
        "overhead": statistics.median((row["wall"] - row["shards"]) / row["wall"] for row in one),
        "overhead_s": statistics.median(row["wall"] - row["shards"] for row in one),
        "first_shard_s": max(row["first_shard"] for row in rows),
    }
    console = Console(width=120)
    console.print(table)
    console.print({name: round(value, 4) for name, value in summary.items()})
    if options.out is not None:
        machine = {"machine": platform.platform(), "cores": os.cpu_count()}
        options.out.write_text(json.dumps({**machine, **summary, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
