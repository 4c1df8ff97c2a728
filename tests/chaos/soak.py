"""Many small audits under faults at random: run with `make soak AUDITS=500 SEED=1`.

Half of the audits go to each deployment, a few at a time. The seed decides which fault comes when and what it hits; the
log says when each began, so that a run can be repeated. How far the service is at that moment depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.deployment import Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.faults import faults_of
from chaos.oracle import judge, left_behind, temporary_files
from chaos.record import about, line_about, pipes
from chaos.scene import Scene, keep_logs
from chaos.undisturbed import undisturbed_reports

MIX = ("tiny",) * 7 + ("quick",) * 2 + ("waves",)
"""Kinds of audits, as often as they are submitted."""

BETWEEN_S = (4.0, 12.0)
"""Pause between two faults."""

WAITING = 10
"""Most audits that wait or run: more would only queue, and end before many faults have come."""


@dataclass
class Soak:
    """What came of one deployment."""

    deployment: str
    audits: int
    faults: Mapping[str, int]
    shards: int = 0
    attempts: int = 0
    repeated: int = 0
    refused: int = 0
    longest_wait_s: float = 0.0
    longest_audit_s: float = 0.0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def soak(
    deployment: Deployment,
    *,
    audits: int,
    seed: int,
    limit_s: float,
    undisturbed: Mapping[str, Mapping[str, Any]],
    log: Path,
) -> Soak:
    """Submit audits one after the other while faults come, then let all end and judge."""
    kinds, faults = (random.Random(number) for number in (seed, seed + 1))  # noqa: S311 - repeatable, no secret
    scene = Scene(deployment)
    over = threading.Event()
    done: Counter[str] = Counter()
    started = time.monotonic()
    deployment.start()
    sizes = dict.fromkeys(deployment.logs(), 0)
    for kind in dict.fromkeys(MIX):
        scene.body(kind)  # uploads the images before the first fault
    disturbing = threading.Thread(target=_disturb, args=(deployment, faults, over, done, log))
    disturbing.start()
    try:
        gateway = 0
        while len(scene.accepted) < audits and time.monotonic() - started < limit_s:
            gateway = (gateway + 1) % len(deployment.base_urls)
            if _waiting(scene, gateway) < WAITING:
                if scene.try_submit(kinds.choice(MIX), gateway=gateway) is None:
                    time.sleep(0.2)
            else:
                time.sleep(0.2)
        # the last audits have faults too
        while _waiting(scene, 0) and time.monotonic() - started < limit_s:
            time.sleep(0.5)
    finally:
        over.set()
        disturbing.join()
    deployment.start_again()
    deployment.wait_until_ready(workers=False)
    observed = judge(deployment, scene.accepted, undisturbed, seconds=180)
    found = observed.findings + left_behind(deployment)
    if len(scene.accepted) < audits:
        found.append(f"only {len(scene.accepted)} of {audits} audits were accepted in {limit_s:g} s")
    found += deployment.stop() + [f"temporary file {name}" for name in temporary_files(deployment)]
    if found:
        keep_logs(log.parent / "logs" / f"soak-{type(deployment).__name__}", sizes)
    return Soak(
        deployment=deployment.kind,
        audits=len(scene.accepted),
        faults=dict(sorted(done.items())),
        shards=observed.shards,
        attempts=observed.attempts,
        repeated=observed.repeated,
        refused=len(scene.refused),
        longest_wait_s=round(observed.longest_wait_s, 1),
        longest_audit_s=round(observed.longest_audit_s, 1),
        seconds=round(time.monotonic() - started, 1),
        findings=found,
    )


def _disturb(
    deployment: Deployment, chosen: random.Random, over: threading.Event, done: Counter[str], log: Path
) -> None:
    faults = faults_of(deployment)
    started = time.monotonic()
    while not over.wait(chosen.uniform(*BETWEEN_S)):
        name = chosen.choice(sorted(faults))
        with log.open("a") as file:
            file.write(f"{deployment.kind} {time.monotonic() - started:8.1f} s: {name}\n")
        try:
            faults[name](deployment, chosen)
        except Exception as error:  # noqa: BLE001 - a fault may find nothing to break, and the soak goes on
            with log.open("a") as file:
                file.write(f"    not done: {type(error).__name__}: {error}\n")
            continue
        done[name] += 1


def _waiting(scene: Scene, gateway: int) -> int:
    """Audits that have not ended, as a gateway says; 0 if it does not answer, so that the submit finds out."""
    client = scene.deployment.client_of(scene.deployment.base_urls[gateway])
    try:
        answer = client.get("/v1/audits", params={"limit": 4 * WAITING}, timeout=5)
        items = answer.json()["items"] if answer.status_code == 200 else []
    except Exception:  # noqa: BLE001 - the gateway was killed in the middle of its answer
        return 0
    return sum(item["state"] in {"queued", "running", "finalizing"} for item in items)


def markdown(document: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    rows = document["soak"]
    names = sorted({name for row in rows for name in row["faults"]})
    lines = [
        [label, *(str(row[name]) for row in rows)]
        for label, name in (
            ("audits", "audits"),
            ("shards", "shards"),
            ("starts of shards", "attempts"),
            ("of these, repeated", "repeated"),
            ("submits refused during faults", "refused"),
            ("longest wait for the first shard (s)", "longest_wait_s"),
            ("longest audit (s)", "longest_audit_s"),
            ("seconds", "seconds"),
        )
    ]
    lines += [[f"fault: {name}", *(str(row["faults"].get(name, 0)) for row in rows)] for name in names]
    lines.append(["oracle", *("holds" if not row["findings"] else f"{len(row['findings'])} findings" for row in rows)])
    header = [f"seed {document['seed']}", *(row["deployment"] for row in rows)]
    return f"{line_about(document)}\n\n{pipes(header, lines)}"


def main() -> int:
    """Run, print the table, write JSON and Markdown; 1 if anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=480.0, help="Longest time of submits to each deployment.")
    parser.add_argument("--out", type=Path, default=Path("chaos"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "soak-faults.log"
    log.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    document: dict[str, Any] = {**about(), "seed": options.seed, "soak": []}
    weights = folder / "weights"
    weights.mkdir()
    try:
        undisturbed = undisturbed_reports(folder / "undisturbed", weights=weights, kinds=tuple(dict.fromkeys(MIX)))
        for place, kind in enumerate((EmbeddedDeployment, ScaledDeployment)):
            deployment = kind(folder / f"soak-{place}", weights=weights)
            try:
                row = soak(
                    deployment,
                    audits=options.audits // 2,
                    seed=options.seed + place,
                    limit_s=options.limit_s,
                    undisturbed=undisturbed,
                    log=log,
                )
            finally:
                deployment.stop()
            document["soak"].append(asdict(row))
            (options.out / "soak.json").write_text(json.dumps(document, indent=2) + "\n")
            (options.out / "soak.md").write_text(markdown(document))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    findings = [f"{row['deployment']}: {one}" for row in document["soak"] for one in row["findings"]]
    print(markdown(document), *findings, sep="\n")  # noqa: T201 - the result of the command
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
