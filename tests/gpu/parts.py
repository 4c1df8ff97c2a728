"""Which parts a run on a GPU has, in which order, and how their time is divided."""

from __future__ import annotations

import functools
import importlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import torch

from gpu.context import Context
from gpu.record import Record

WEIGHTS = {
    "parity": 8,
    "syncs": 4,
    "throughput": 20,
    "workers": 12,
    "protocol": 14,
    "relevance": 4,
    "foreign": 3,
    "won": 4,
    "memory": 3,
    "incremental": 2,
}
"""Parts in order of value, with their share of the time that is left when they begin; others get what one leaves."""

LEAST_S = 3.0
"""A part that would have less is not begun."""


def run_parts(
    names: Sequence[str],
    device: torch.device,
    record: Record,
    *,
    until: float,
    tiny: bool,
    say: Callable[[str], None],
    only: Sequence[str] = (),
    profile: bool = False,
) -> list[str]:
    """Run parts one after the other and put each result into the record; an exception ends its part only.

    Args:
        names: Keys of `WEIGHTS`.
        device: Where models run.
        record: Gets what each part returns, with its `wall_s`; or `error`, the traceback.
        until: When all must be done, on `time.monotonic`.
        tiny: Whether this is a rehearsal.
        say: Prints one line at once.
        only: Words of which a subject must contain one; all are tried if there are none.
        profile: Whether throughput also says where the time goes.

    Returns:
        One line for everything that went wrong: an exception, a failed comparison, a part that had no time.
    """
    wrong: list[str] = []
    for number, name in enumerate(names):
        left_s = until - time.monotonic()
        seconds = left_s * WEIGHTS[name] / sum(WEIGHTS[later] for later in names[number:])
        if seconds < LEAST_S:
            record.put(name, {"error": f"not begun: {max(0.0, left_s):.0f} s were left for all parts"})
            wrong.append(f"{name}: not begun, no time was left")
            continue
        say(f"== {name} ({seconds:.0f} s)")
        started = time.monotonic()
        found: dict[str, object]
        try:
            keep = functools.partial(_keep, record, name)
            found = dict(_part(name)(Context(device, seconds, tiny, say, tuple(only), profile, keep)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts still have something to tell
            trace = traceback.format_exc()
            say(trace)
            found = {"error": trace}
            wrong.append(f"{name}: {type(error).__name__}: {error}")
        # a part that broke off or measured large batches must not take memory from the next
        if device.type == "cuda":
            _release_memory()
        found["wall_s"] = round(time.monotonic() - started, 2)
        failures = found.get("failures")
        if isinstance(failures, list):
            wrong += [f"{name}: {failure}" for failure in failures]
        record.put(name, found)
        say(f"== {name} took {found['wall_s']} s")
    return wrong


def _keep(record: Record, name: str, found: Mapping[str, object]) -> None:
    record.put(name, {"unfinished": True, **found})


def _part(name: str) -> Callable[[Context], dict[str, object]]:
    try:
        module = importlib.import_module(f"gpu.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"gpu.{name}":
            raise
        message = f"tests/gpu/{name}.py does not exist, so the part {name} cannot run"
        raise RuntimeError(message) from error
    run: Callable[[Context], dict[str, object]] = module.run
    return run


def _release_memory() -> None:
    try:
        torch.cuda.empty_cache()
    except RuntimeError:
        # after an error inside a kernel every call fails; the next part will say so
        return
