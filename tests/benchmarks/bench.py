"""The cost of an audit compared with the cost of its passes: `make bench` on the CPU, `--device cuda` on a GPU.

For the demo model and an untrained resnet50, in one run:
  raw     the bare model's best speed over batch sizes and memory formats, at the start and again around every row;
  naive   the same audit one image, one explainer, one change at a time, with captum, zennit and a plain loop;
  ours    the engine, by check and explainer, and one plan that shares everything;
  foreign Quantus, for pixel flipping and sensitivity;
  lrp     a map of each composite, a plain gradient and zennit's map, in turns;
  memory  the peak with 16 and with 256 images, each in a process of its own;
  neighbors  an audit on quiet cores and beside a busy process, on the CPU only.

Every row is measured between two measurements of the bare model; half of the papers' way runs before the engine and
half after it, so that a drifting machine changes neither ratio. How many images a row audits follows from the time.
Engine efficiency = ideal seconds / wall seconds, where ideal = (forward - backward passes) / raw forward speed
+ backward passes / raw speed of forward and backward together.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from auditcore.contracts.explainers import Explainer
from auditcore.devices.allocator import keep_freed_memory
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import foreign, machine, memory, neighbors, protocol, relevance, table
from benchmarks.cases import Case, cases
from benchmarks.ideal import Rates
from benchmarks.raw import RawThroughput
from benchmarks.rows import measure, paper_of, row_of, warm_up
from benchmarks.subjects import MODELS, load, photos
from benchmarks.timing import Precision

BUDGET_MIN = {"cpu": 12.0, "cuda": 7.0}
MOST_IMAGES = {"cpu": 8, "cuda": 256}
GROWTH_IMAGES = (16, 256)
GROWTH_S, FOREIGN_S, RELEVANCE_S, PROTOCOL_S, NEIGHBORS_S = 45.0, 20.0, 45.0, 100.0, 90.0
"""Seconds kept for what comes after the rows; Quantus and LRP once a model, the protocol on CUDA only, neighbors on the
CPU only."""

RELEVANCE_BATCH = 4

ROW_SHARE = 0.7
"""Of a row's part of the time, for what is timed; the rest is warming up and the bare model."""


def arguments_of(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: PYTHONPATH=tests .venv/bin/python -m benchmarks.bench --models demo --only sweep --budget 2",
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where everything runs (default cpu)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="default: both")
    parser.add_argument(
        "--budget", type=float, help="minutes for the whole run; rows get fewer images (default 12, on CUDA 7)"
    )
    parser.add_argument("--images", type=int, help="most photos of a row (default 8, on CUDA 256)")
    parser.add_argument("--rounds", type=int, default=2, help="timings of each raw configuration (default 2)")
    parser.add_argument(
        "--only", metavar="WORD", help="rows whose check or explainer contains it; nothing but rows is measured then"
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="JSON file (default bench.json)")
    card = parser.add_argument_group(
        "projection", "how long 500 images of Tetkova & Hansen 2023 would take on a card that is not here"
    )
    card.add_argument("--project", action="store_true", help="print the projection, measure nothing else")
    card.add_argument("--card-forward", type=float, metavar="N", help="resnet50 forward passes per second of the card")
    card.add_argument("--card-gradient", type=float, metavar="N", help="its forward + backward passes per second")
    card.add_argument("--card-forward-bf16", type=float, metavar="N", help="the same in bf16, if that is asked too")
    card.add_argument("--card-gradient-bf16", type=float, metavar="N", help="the same in bf16")
    card.add_argument(
        "--relevance-cost",
        type=float,
        default=2.0,
        help="an LRP map in plain gradients (default 2, the mean over the composites of a CPU's 1.5 to 2.5)",
    )
    card.add_argument("--efficiency", type=float, default=0.85, help="engine efficiency assumed (default 0.85)")
    arguments = parser.parse_args(given)
    if arguments.project and not (arguments.card_forward and arguments.card_gradient):
        parser.error("--project needs the speed of the card: --card-forward and --card-gradient, in images per second")
    if arguments.device == "cuda" and not torch.cuda.is_available() and not arguments.project:
        parser.error(
            "torch sees no CUDA device here, so nothing can be measured on one. Run `make bench` for the CPU, or "
            "project the paper-scale protocol from a card's known speed: --project --card-forward N --card-gradient N"
        )
    if arguments.images is not None and arguments.images < 1:
        parser.error("--images must be at least 1")
    arguments.budget = arguments.budget or BUDGET_MIN[arguments.device]
    arguments.images = arguments.images or MOST_IMAGES[arguments.device]
    return arguments


def main() -> None:
    """Measure, print tables, write JSON."""
    arguments = arguments_of()
    # wide enough for the table in a log
    console = Console(width=None if sys.stdout.isatty() else 160)
    if arguments.project:
        for found in projections(arguments):
            table.show_projection(found, console)
            console.print_json(json.dumps(found))
        return
    # as a worker does; everybody's passes profit
    keep_freed_memory()
    # captum announces each of its hooks
    warnings.filterwarnings("ignore", category=UserWarning, module="captum")
    bench = run(arguments, console)
    arguments.out.write_text(json.dumps(bench, indent=2) + "\n")
    table.show(bench, console)
    console.print(f"written to {arguments.out}")


def projections(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The paper-scale protocol at the speeds given: in float32, and in bf16 where its speed is given too."""
    rates = Rates(arguments.card_forward, arguments.card_gradient)
    ways: list[Rates | None] = [None]
    if arguments.card_forward_bf16 and arguments.card_gradient_bf16:
        ways.append(Rates(arguments.card_forward_bf16, arguments.card_gradient_bf16))
    return [
        protocol.projected_for(
            rates,
            relevance_cost=arguments.relevance_cost,
            efficiency=arguments.efficiency,
            faster=faster,
        )
        for faster in ways
    ]


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The whole benchmark."""
    started = time.monotonic()
    device = torch.device(arguments.device)
    pictures = photos(max(arguments.images, protocol.SAMPLES[0]))
    chosen = [case for case in cases() if _matches(case, arguments.only)]
    if not chosen:
        sys.exit(f"no row's check or explainer contains {arguments.only!r}")
    bench: dict[str, Any] = {
        "machine": machine.describe_machine(device),
        "versions": machine.describe_versions(device),
        "date": machine.today(),
        "budget_minutes": arguments.budget,
        "rows": [],
        "raw": {},
        "foreign": [],
        "memory_growth": [],
        "relevance": [],
        "neighbors": [],
        "tetkova2023": None,
    }
    extras = arguments.only is None
    late_s = (GROWTH_S + (PROTOCOL_S if device.type == "cuda" else NEIGHBORS_S)) if extras else 0
    for number, model in enumerate(arguments.models):
        models_left = len(arguments.models) - number
        now = time.monotonic() - started
        share_s = (60 * arguments.budget - late_s - now) / models_left - (FOREIGN_S + RELEVANCE_S if extras else 0)
        classifier = load(model, arguments.device)
        raw = _rows_of(
            model,
            classifier,
            chosen,
            pictures[: arguments.images],
            arguments.rounds,
            share_s,
            bench,
            arguments.out,
            console,
        )
        if extras:
            console.print(f"{model}: Quantus")
            module = raw.module(raw.format_for_single_images())
            bench["foreign"] += [{"model": model, **row} for row in foreign.compare(classifier, module, pictures[:2])]
            console.print(f"{model}: LRP")
            found = relevance.measure(classifier, RELEVANCE_BATCH, arguments.rounds)
            bench["relevance"] += [{"model": model, **row} for row in found]
    if extras:
        console.print("memory by images")
        first = None
        for row in memory.growth(arguments.models[0], GROWTH_IMAGES, arguments.device):
            first = first or row["peak_memory_bytes"]
            bench["memory_growth"].append(
                {"model": arguments.models[0], **row, "of_the_first": row["peak_memory_bytes"] / first}
            )
        if device.type == "cpu":
            bench["neighbors"] = neighbors.measure()
            for one in bench["neighbors"]:
                console.print(f"beside a busy process, threads {one['waiting']}: {one['ratio']:.2f} times as long")
        if device.type == "cuda":
            console.print("protocol of Tetkova & Hansen 2023")
            left_s = 60 * arguments.budget - (time.monotonic() - started)
            bench["tetkova2023"] = protocol.measured_on(load("resnet50", arguments.device), pictures, left_s)
    bench["seconds"] = time.monotonic() - started
    return bench


def _matches(case: Case, word: str | None) -> bool:
    return word is None or word in case.check or word in case.explainer


def _rows_of(
    model: str,
    classifier: Classifier,
    chosen: Sequence[Case],
    pictures: Sequence[EncodedImage],
    rounds: int,
    seconds: float,
    bench: dict[str, Any],
    out: Path,
    console: Console,
) -> RawThroughput:
    """All rows of one model within some seconds; the bare model before, between and after them."""
    until = time.monotonic() + seconds
    precisions: Sequence[Precision] = ("fp32", "bf16") if classifier.device.type == "cuda" else ("fp32",)
    raw = RawThroughput(classifier, classifier.module, rounds)
    raw.scan(precisions)
    folded = RawThroughput(classifier, classifier.folded, rounds)
    folded.scan(precisions, formats=("channels_last",))
    rates = raw.of_scan()
    console.print(f"{model}: {rates.forward:.1f} forward/s, {rates.gradient:.1f} forward + backward/s")
    paper = paper_of(raw, pictures[0])
    warm: set[Explainer] = set()
    for number, case in enumerate(chosen):
        cold = [explainer for explainer in case.plan.explainers if explainer not in warm]
        if cold:
            warm_up(cold, raw, pictures[0], paper)
            warm.update(cold)
        budget_s = max(1.0, ROW_SHARE * (until - time.monotonic()) / (len(chosen) - number))
        row = row_of(model, case, measure(case, raw, folded, pictures, paper, budget_s))
        bench["rows"].append(row)
        # what is measured stays, should the run be ended
        out.write_text(json.dumps(bench, indent=2) + "\n")
        console.print("  ".join(table.line_of(row)), highlight=False)
    bench["raw"][model], bench["raw"][f"{model}, folded"] = raw.record(), folded.record()
    return raw


if __name__ == "__main__":
    main()
