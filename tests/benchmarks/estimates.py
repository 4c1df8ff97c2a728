"""How well an estimate foretells an audit: run with `make bench-estimates`.

Several plans run one after the other on the demo model and the real engine, through submit and the executor of a
worker. The first is priced by the assumed speed, the others of the first round by the raw speed of the model, those of
the second round by what this very plan took before. The error is estimated over actual seconds of the
report's cost, less one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.devices.allocator import keep_freed_memory
from auditcore_service.cli.demo import PHOTOS, photo_path
from auditcore_service.embedded.redis_server import RedisServer
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from auditcore_service.use_cases.image_batches import UploadedFile
from auditcore_service.worker.execution import Executor
from worker_in_process import worker_of

SWEEP = {
    "kind": "sweep",
    "augmentations": [{"kind": "brightness", "interval": [-0.3, 0.3]}, {"kind": "rotate", "interval": [-20, 20]}],
    "levels": 5,
}
PLANS: dict[str, dict[str, Any]] = {
    "warm up": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "edda", "keep": [0.2]}]},
    "sweep": {"explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}], "checks": [SWEEP]},
    "deletion": {
        "explainers": [{"kind": "gradient"}],
        "checks": [{"kind": "deletion", "grid": 7, "repeats": 1}],
    },
    "pixel_flipping": {
        "explainers": [{"kind": "gradient"}],
        "checks": [{"kind": "pixel_flipping"}],
    },
    "integrated_gradients": {
        "explainers": [{"kind": "integrated_gradients", "steps": 16}],
        "checks": [{"kind": "edda", "keep": [0.2]}, {"kind": "sensitivity", "draws": 3}],
    },
    "lrp": {
        "explainers": [{"kind": "lrp_epsilon_plus_flat"}],
        "checks": [{"kind": "sensitivity", "draws": 5}, {"kind": "edda", "keep": [0.2]}],
    },
}


def audit(service: Service, executor: Executor, digest: str, plan: dict[str, Any]) -> tuple[str, AuditReport]:
    """One audit in this process; the basis of its estimate, and its report."""
    request = AuditRequest.model_validate(
        {"model": {"kind": "demo"}, "images": {"kind": "batch", "digest": digest}, "plan": plan}
    )
    submitted = service.audits.submit(ANONYMOUS, request)
    while True:
        with service.database.reading("default") as connection:
            queued = [shard.key for shard in list_shards(connection, submitted.id) if shard.state == "queued"]
        if not queued:
            break
        for key in queued:
            executor.run(key)
    estimate = json.loads(submitted.estimate or "{}")
    return estimate["basis"], AuditReport.model_validate_json(service.audits.report(ANONYMOUS, submitted.id))


def main() -> None:
    """Measure, print a table and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    # as a worker does
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="estimates-") as folder:
        redis = RedisServer(Path(folder) / "redis")
        redis.start()
        settings = Settings(data_dir=Path(folder) / "data", redis_url=SecretStr(redis.url), picture_images=0)
        service = Service.of(settings)
        service.database.migrate()
        try:
            executor = worker_of(service)
            paths = [photo_path(package, path) for package, path in PHOTOS]
            files = [
                UploadedFile(f"{n}.png", io.BytesIO(paths[n % 4].read_bytes()), f"images.{n}")
                for n in range(options.images)
            ]
            digest = service.batches.store(ANONYMOUS, files).digest
            for number in (1, 2):
                for name, plan in PLANS.items():
                    basis, report = audit(service, executor, digest, plan)
                    estimated, actual = report.cost.estimated_seconds or 0.0, report.cost.seconds
                    rows.append(
                        {
                            "round": number,
                            "plan": name,
                            "basis": basis,
                            "estimated_s": estimated,
                            "actual_s": actual,
                            "error": estimated / actual - 1,
                        }
                    )
        finally:
            service.stop()
            redis.stop()
    table = Table(title=f"Estimated and actual seconds of shards, demo model, {options.images} images")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    for number, what in ((1, "by the raw speed of the model"), (2, "by this very plan")):
        errors = [abs(row["error"]) for row in rows if row["round"] == number and row["basis"] == "measured"]
        console.print(f"priced {what}: largest error {max(errors):.0%}, mean {sum(errors) / len(errors):.0%}")
    if options.out is not None:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "rows": rows}
        options.out.write_text(json.dumps(machine, indent=2) + "\n")


if __name__ == "__main__":
    main()
