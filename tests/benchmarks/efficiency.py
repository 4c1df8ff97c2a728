"""How much of an audit's time is the model's own: run with `make bench`.

Engine efficiency = ideal seconds / wall seconds. Ideal seconds are the passes that the ledger counted, each at
the best throughput of the bare model over batch sizes and memory formats, forward and forward + backward
apart. Raw throughput is measured before and after the checks, in the same process, and the best one counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.augmentations import Augmentation, Brightness, Rotate
from auditcore.contracts.checks import Check, DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import Explainer, Gradient, InputXGradient
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.engine.environment import describe_environment
from auditcore.engine.shard import run_shard
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.table import load_classifier
from auditcore_service.demo import PHOTOS, photo_path

BATCH_SIZES = (1, 4, 8, 16, 32)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FAMILIES: tuple[Augmentation, ...] = (Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))
CASES: dict[str, tuple[tuple[Explainer, ...], Check]] = {
    "sweep": ((Gradient(),), SweepCheck(families=FAMILIES, levels=11)),
    "deletion": ((Gradient(), InputXGradient()), DeletionCheck(grid=7, repeats=2)),
    "edda": ((Gradient(), InputXGradient()), EddaCheck()),
}


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue drained on both sides."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def raw_throughput(classifier: Classifier, rounds: int) -> dict[str, float]:
    """Best images a second of the bare model: forward alone, and forward with the gradient of the input."""
    best = {"forward": 0.0, "gradient": 0.0}
    side = classifier.size
    for memory_format in FORMATS.values():
        module = classifier.module.to(memory_format=memory_format)
        for size in BATCH_SIZES:
            x = torch.rand(size, 3, side, side, device=classifier.device).contiguous(memory_format=memory_format)

            def forward(module: torch.nn.Module = module, x: torch.Tensor = x) -> None:
                with torch.inference_mode():
                    module(x)

            def gradient(module: torch.nn.Module = module, x: torch.Tensor = x) -> None:
                leaf = x.clone().requires_grad_(requires_grad=True)
                torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)

            for name, work in (("forward", forward), ("gradient", gradient)):
                work()
                fastest = min(seconds_of(work, classifier.device) for _ in range(rounds))
                best[name] = max(best[name], size / fastest)
    classifier.module.to(memory_format=torch.channels_last)
    return best


def run_case(classifier: Classifier, photos: list[EncodedImage], name: str) -> dict[str, float | int | str]:
    """One check on the photos: passes counted and wall seconds."""
    explainers, check = CASES[name]
    plan = AuditPlan(explainers=explainers, checks=(check,))
    result = run_shard(
        classifier=classifier,
        images=photos,
        plan=plan,
        wave="compute",
        shared={},
        limits=Limits(),
        progress=lambda _share: None,
        clock=time.perf_counter,
    )
    return {
        "check": name,
        "explainers": ",".join(explainer.label for explainer in explainers),
        "images": len(photos),
        "forward_images": result.cost.forward_images,
        "backward_images": result.cost.backward_images,
        "seconds": result.cost.seconds,
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="photos to audit (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each raw configuration (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()

    classifier = load_classifier(DemoModel(), access=AccessRules(), device=arguments.device)
    paths = [photo_path(*PHOTOS[number % len(PHOTOS)]) for number in range(arguments.images)]
    photos = [EncodedImage(index, path.name, path.read_bytes()) for index, path in enumerate(paths)]
    run_case(classifier, photos[:1], "edda")  # the first call of every kernel is slower
    before = raw_throughput(classifier, arguments.rounds)
    rows = [run_case(classifier, photos, name) for name in CASES]
    after = raw_throughput(classifier, arguments.rounds)
    raw = {name: max(before[name], after[name]) for name in before}
    for row in rows:
        backward, forward = int(row["backward_images"]), int(row["forward_images"])
        ideal = (forward - backward) / raw["forward"] + backward / raw["gradient"]
        row["engine_efficiency"] = ideal / float(row["seconds"])

    unit = 1 if sys.platform == "darwin" else 1024
    bench = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {arguments.device}",
        "versions": describe_environment(classifier.device),
        "model": "demo",
        "raw_images_per_second": raw,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(bench, indent=2) + "\n")
    show(bench, rows, raw)


def show(bench: dict[str, object], rows: list[dict[str, float | int | str]], raw: dict[str, float]) -> None:
    """The table a person reads."""
    table = Table(title=f"Engine efficiency, demo model, {bench['machine']}")
    for column in ("check", "explainers", "images", "forward", "backward", "seconds", "efficiency"):
        table.add_column(column, justify="left" if column in {"check", "explainers"} else "right")
    for row in rows:
        table.add_row(
            str(row["check"]),
            str(row["explainers"]),
            str(row["images"]),
            str(row["forward_images"]),
            str(row["backward_images"]),
            f"{row['seconds']:.1f}",
            f"{row['engine_efficiency']:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(f"raw: {raw['forward']:.1f} forward/s, {raw['gradient']:.1f} forward + backward/s")


if __name__ == "__main__":
    main()
