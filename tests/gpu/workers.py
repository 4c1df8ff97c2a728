"""Whether several workers on one card reach together what one cannot: one decodes or writes while another computes.

Each is a process of its own, as the process of a worker that computes is, with its own Python, model and calibration.
All of them begin at once, each with as many photos as it would have alone; efficiency is that of all passes together.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import torch

from auditcore.contracts.explainers import Gradient
from auditcore.devices.allocator import keep_freed_memory
from benchmarks import ours
from benchmarks.cases import Case, cases
from benchmarks.ideal import Passes, Rates, engine_efficiency
from benchmarks.raw import KINDS
from gpu.bare_speed import BATCHES, BareSpeed
from gpu.context import Context
from gpu.models import load
from gpu.photos import photos
from gpu.precisions import Precision, engine_speed, fast_arithmetic
from gpu.throughput import AUDIT_IMAGES, CHECKS, GOAL, WARM_IMAGES

COUNTS, TINY_COUNTS = (1, 2, 4), (1, 2)
"""Processes at once."""

COMBINATIONS: tuple[tuple[str, Precision], ...] = (("resnet50", "tf32"), ("resnet50", "bf16"))
IMAGES, TINY_IMAGES = 256, 2
"""Photos of each process."""

COMPILED_S = 60.0
"""For the bare model, compiled in both kinds, and for a process that loads and compiles."""


class Task(NamedTuple):
    """What a process is asked: some photos of one case, with its share of the cores."""

    case: Case
    images: int
    threads: int


@dataclass(frozen=True)
class Subject:
    """What a process loads; everything in it can be sent to one."""

    model: str
    precision: Precision
    device: str
    tiny: bool


def run(context: Context) -> dict[str, object]:
    """Rows for each model and precision that the time allows: how many processes, and their efficiency together."""
    until = time.perf_counter() + context.seconds
    found: dict[str, object] = {"goal": GOAL}
    for model, precision in COMBINATIONS[:1] if context.tiny else COMBINATIONS:
        name = f"{model} {precision}"
        if not context.wants(name):
            continue
        if len(found) > 1 and until - time.perf_counter() < 2 * COMPILED_S:
            context.say(f"{name}: skipped, {until - time.perf_counter():.0f} s left")
            continue
        rates = _rates(context, model, precision)
        context.say(f"{name}: bare model {rates.forward:.0f} forward, {rates.gradient:.0f} gradients per second")
        rows: list[dict[str, object]] = []
        for row in _rows(context, Subject(model, precision, str(context.device), context.tiny), rates, until):
            rows.append(row)
            context.keep(found | {name: {"rates": asdict(rates), "rows": rows}})
        found[name] = {"rates": asdict(rates), "rows": rows}
    return found


def _rates(context: Context, model: str, precision: Precision) -> Rates:
    """The best speeds of the bare model, compiled."""
    classifier = load(model, context)
    bare = BareSpeed(
        classifier,
        precision,
        batches=(2, 4) if context.tiny else BATCHES[-1:],
        backend="aot_eager" if context.tiny else "inductor",
        measure_s=0.02 if context.tiny else 0.15,
    )
    with fast_arithmetic(precision):
        forward, gradient = (bare.measure(kind, compiled=not context.tiny).best for kind in KINDS)
    del bare, classifier
    if context.device.type == "cuda":
        torch.cuda.empty_cache()
    return Rates(forward, gradient)


def _rows(context: Context, subject: Subject, rates: Rates, until: float) -> Iterator[dict[str, object]]:
    counts = TINY_COUNTS if context.tiny else COUNTS
    chosen = [case for case in cases() if case.check in CHECKS and case.explainer == Gradient().label]
    images, warm = (TINY_IMAGES, TINY_IMAGES) if context.tiny else (IMAGES, WARM_IMAGES)
    cores = os.cpu_count() or 1
    with processes(subject, max(counts)) as connections:
        # the first one compiles, the others find what it compiled
        for group in (connections[:1], connections[1:]):
            for case in chosen:
                together(group, Task(case, warm, max(1, cores // max(1, len(group)))))
        context.say(f"{len(connections)} processes are ready")
        for count in counts:
            for case in chosen:
                if time.perf_counter() > until:
                    context.say(f"{count} processes, {case.check}: skipped, no time is left")
                    continue
                seconds, made = together(connections[:count], Task(case, images, max(1, cores // count)))
                efficiency = engine_efficiency(made, rates, seconds)
                context.say(
                    f"{subject.model} {subject.precision} {case.check}, {count} processes: efficiency {efficiency:.3f} "
                    f"(goal {GOAL}), {count * images} images in {seconds:.2f} s"
                )
                yield {
                    "processes": count,
                    "check": case.check,
                    "images": count * images,
                    "seconds": seconds,
                    "made": asdict(made),
                    "engine_efficiency": efficiency,
                    "reached": efficiency >= GOAL,
                }


def together(connections: Sequence[Connection], task: Task) -> tuple[float, Passes]:
    """Let processes do the same at once.

    Args:
        connections: To each of them.
        task: What each does.

    Returns:
        Seconds until the last one was done, and the passes of all.

    Raises:
        RuntimeError: One has failed, or died.
    """
    started = time.perf_counter()
    try:
        for connection in connections:
            connection.send(task)
        answers = [connection.recv() for connection in connections]
    except (EOFError, ConnectionError) as error:
        msg = "a process died"
        raise RuntimeError(msg) from error
    seconds, total = time.perf_counter() - started, Passes(0, 0)
    for answer in answers:
        if not isinstance(answer, Passes):
            msg = f"a process failed: {answer}"
            raise RuntimeError(msg)  # noqa: TRY004 - an answer of another type is how a process says so
        total += answer
    return seconds, total


@contextmanager
def processes(subject: Subject, count: int) -> Iterator[list[Connection]]:
    """Processes that have loaded a model, each behind a connection; they end with the block, or with this process."""
    spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    started: list[BaseProcess] = []
    connections: list[Connection] = []
    try:
        for _ in range(count):
            ours_end, theirs = spawn.Pipe()
            # no daemon: those may not start processes, and compilers do
            process = spawn.Process(target=work, args=(theirs, subject))
            process.start()
            # so that the end of one of the two is seen by the other
            theirs.close()
            started.append(process)
            connections.append(ours_end)
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in started:
            process.join(10)
            process.kill()


def work(connection: Connection, subject: Subject) -> None:
    """Do tasks until nobody asks any more: in a process of its own."""
    try:
        device = torch.device(subject.device)
        keep_freed_memory()  # as a worker does
        classifier = load(subject.model, Context(device, 0.0, subject.tiny, lambda _line: None))
        pictures = photos(TINY_IMAGES if subject.tiny else IMAGES)
        with engine_speed(subject.precision, compiled=not subject.tiny) as speed:
            while True:
                task: Task = connection.recv()
                torch.set_num_threads(task.threads)
                plan = task.case.plan.model_copy(update={"speed": speed})
                done = ours.run(classifier, plan, pictures[: task.images], audit_images=AUDIT_IMAGES)
                connection.send(done.made)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception:  # noqa: BLE001 - whatever it is, the other side has to know
        connection.send(traceback.format_exc())
