"""How gateways answer under load: run with `make load`; writes load.json and load.md.

Real gateways on SQLite and on PostgreSQL, with a real Redis and without workers: this is the price of accepting,
showing and following audits. The clients are a process of their own, on the last core if there are several; gateways
and databases may use all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from auditcore_service.embedded.redis_server import RedisServer
from chaos.deployment import PROGRAM, free_port
from chaos.postgres_server import PostgresServer
from chaos.record import about, line_about, pipes
from chaos.service_process import ServiceProcess

START_S = 60.0
PHASES: Mapping[str, Mapping[str, Any]] = {
    "submit": {"clients": 100, "seconds": 15.0},
    "poll": {"clients": 100, "seconds": 10.0},
    "upload": {"clients": 100, "seconds": 10.0},
    "streams": {"streams": 500, "seconds": 15.0},
    "steady": {"per_s": 40.0, "seconds": 60.0},
}


@contextmanager
def gateways(folder: Path, *, database: str, number: int) -> Iterator[tuple[list[str], list[ServiceProcess]]]:
    """Start gateways on a new database.

    Yields:
        Their addresses and processes.
    """
    redis = RedisServer(folder / "redis")
    redis.start()
    postgres = PostgresServer(folder / "postgres", port=free_port()) if database == "PostgreSQL" else None
    processes: list[ServiceProcess] = []
    try:
        if postgres is not None:
            postgres.start()
        url = f"sqlite:///{folder / 'auditcore.db'}" if postgres is None else postgres.url("127.0.0.1", postgres.port)
        ports = [free_port() for _ in range(number)]
        for port in ports:
            settings = {
                "AUDIT_DATABASE_URL": url,
                "AUDIT_REDIS_URL": redis.url,
                "AUDIT_QUEUE": "redis",
                "AUDIT_BLOB_URL": f"file://{folder / 'blobs'}",
                "AUDIT_PORT": str(port),
                "AUDIT_LOG_JSON": "true",
            }
            process = ServiceProcess(
                f"gateway-{port}",
                [*PROGRAM, "gateway"],
                environment={**os.environ, **settings},
                log=folder / f"gateway-{port}.log",
            )
            processes.append(process)
            process.start()
            _wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield [f"http://127.0.0.1:{port}" for port in ports], processes
    finally:
        for process in processes:
            process.end()
        if postgres is not None:
            postgres.process.end()
        redis.stop()


def _wait_until_ready(url: str, process: ServiceProcess) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(process.log.read_text()[-2000:])
        time.sleep(0.1)


def measure(folder: Path, *, database: str, number: int, scale: float) -> list[dict[str, Any]]:
    """All phases on one kind of deployment, one after the other.

    Args:
        folder: For everything that is stored.
        database: `SQLite` or `PostgreSQL`.
        number: Of gateways.
        scale: Factor of the length of each phase.
    """
    rows = []
    known: dict[str, Any] = {"audits": [], "batch": ""}
    with gateways(folder, database=database, number=number) as (urls, processes):
        for phase, options in PHASES.items():
            wanted = {**options, **known, "phase": phase, "urls": urls, "least_audits": 20}
            wanted["seconds"] = options["seconds"] * scale
            before, started = _processor_s(processes), time.monotonic()
            answer = _clients(wanted)
            took = time.monotonic() - started
            known = {"audits": answer["audits"], "batch": answer["batch"]}
            rows.append(
                {
                    "database": database,
                    "gateways": number,
                    "phase": phase,
                    **answer["found"],
                    "processor": (_processor_s(processes) - before) / took,
                    "memory_mib": sum(psutil.Process(one.pid).memory_info().rss for one in processes) / 2**20,
                }
            )
    return rows


def _clients(wanted: Mapping[str, Any]) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "--cpu-list", str(cores[-1])] if len(cores) > 1 and shutil.which("taskset") else []
    done = subprocess.run(
        [*pinned, sys.executable, "-m", "benchmarks.load_clients"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])),
        },
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _processor_s(processes: list[ServiceProcess]) -> float:
    return sum(sum(psutil.Process(one.pid).cpu_times()[:2]) for one in processes)


def markdown(document: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    header = [
        "database",
        "gateways",
        "requests",
        "per s",
        "p50 (ms)",
        "p99 (ms)",
        "max (ms)",
        "errors",
        "processor",
        "MiB",
    ]
    lines = []
    for row in document["rows"]:
        for what, found in _parts(row):
            figures = [
                f"{found[name]:.0f}" if name in found else "" for name in ("per_s", "p50_ms", "p99_ms", "max_ms")
            ]
            errors = ", ".join(f"{count} x {name}" for name, count in found.get("errors", {}).items()) or "0"
            lines.append(
                [
                    *(row["database"], str(row["gateways"]), what, *figures, errors),
                    *(f"{row['processor']:.2f}", f"{row['memory_mib']:.0f}"),
                ]
            )
    return f"{line_about(document)}\n\n{pipes(header, lines)}"


def _parts(row: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    match row["phase"]:
        case "steady":
            return [
                (f"steady, {PHASES['steady']['per_s']:g} a second: {name}", row[name])
                for name in ("submit", "poll", "upload")
            ]
        case "streams":
            opened = row["opened"].get("200", 0) - row["opened"].get("ended", 0)
            return [(f"{opened} idle event streams: submit of one client", row["submit_beside"])]
        case name:
            return [(f"{name}, 100 clients", row)]


def main() -> None:
    """Measure, print the table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="Factor of the length of each phase.")
    parser.add_argument("--only", choices=("SQLite", "PostgreSQL"))
    parser.add_argument("--out", type=Path, default=Path("load"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {**about(), "rows": []}
    for database in (options.only,) if options.only else ("SQLite", "PostgreSQL"):
        for number in (1, 2):
            folder = Path(tempfile.mkdtemp(prefix="load-"))
            folder.chmod(0o755)
            try:
                document["rows"] += measure(folder, database=database, number=number, scale=options.scale)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            (options.out / "load.json").write_text(json.dumps(document, indent=2) + "\n")
            (options.out / "load.md").write_text(markdown(document))
    print(markdown(document))  # noqa: T201 - the result of the command


if __name__ == "__main__":
    main()
