"""Whether the host ever waits for the device in the middle of a micro-batch.

A device stays busy only if the host asks for the next operation before the last is done. Reading a value, or an
ordinary copy, makes the host wait for all that was asked; torch can tell when that happens. Between micro-batches the
host may wait; inside the work that `MicroBatches.each` does, it may not.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
import torch

import auditcore
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.plan import AuditPlan
from auditcore.models.classifier import Classifier
from gpu import samples
from gpu.context import Context

EXEMPT: Mapping[str, str] = {
    "check sweep_jpeg": "a JPEG is encoded and decoded on the host",
    "check road": "the solver asks after every step whether the equations are solved",
    "explainer kernel_shap": "superpixels and the small systems of equations are found on the host",
}
"""Subject -> why it has to wait. The filters of G'MIC run on the host too; they are not tried."""

SYNCHRONIZED = "called a synchronizing CUDA operation"
"""What torch says of it, as a warning or as an error."""

ENGINE = Path(auditcore.__file__).parent

Mode = Literal["warn", "error"]


def run(context: Context) -> dict[str, object]:
    """Try every explainer and every check; on a CPU there is nothing to find."""
    if context.device.type != "cuda":
        context.say("syncs: needs CUDA")
        return {"skipped": "needs CUDA"}
    until = time.monotonic() + context.seconds
    found: dict[str, object] = {}
    failures: list[str] = []
    for subject, plan in subjects():
        if not context.wants(subject):
            continue
        if time.monotonic() > until:
            failures.append(f"{subject}: not tried, no time was left")
            continue
        try:
            places = places_of_syncs(samples.on(context.device, plan), plan)
        except Exception as error:  # noqa: BLE001 - the next one can still tell something
            context.say(traceback.format_exc())
            failures.append(f"{subject}: {type(error).__name__}: {error}")
            continue
        reason = EXEMPT.get(subject)
        found[subject] = {"ok": not places, "exempt": reason, "places": places}
        context.say(f"{subject}: {verdict(places, reason)}")
        for place, times in places.items():
            context.say(f"  {times} x {place}")
        if places and reason is None:
            failures.append(f"{subject} waits at {next(iter(places))}")
    return {"failures": failures, "subjects": found}


def verdict(places: Mapping[str, int], reason: str | None) -> str:
    """One word or two on what was found."""
    if not places:
        return "ok" if reason is None else "ok, though exempt"
    return f"WAITS at {len(places)} places" if reason is None else f"waits, exempt: {reason}"


def subjects() -> Iterator[tuple[str, AuditPlan]]:
    """Plans to try, by name."""
    for explainer in samples.EXPLAINERS:
        yield f"explainer {explainer.label}", samples.plan_of(explainer)
    for check in samples.CHECKS:
        yield f"check {check.label}", samples.plan_for(check)


def places_of_syncs(classifier: Classifier, plan: AuditPlan) -> dict[str, int]:
    """Lines of the engine at which the host waited in the middle of a micro-batch, with how often.

    The plan runs once without being watched, since libraries that are loaded and memory that is taken for the first
    time wait too; then once with warnings, which tell all places; and where there are none, once with errors, which
    cannot be overlooked.
    """
    images = samples.digit_images()
    samples.audit(classifier, plan, images)
    places: Counter[str] = Counter()
    with watching("warn", lambda: places.update([_place(traceback.extract_stack())])):
        samples.audit(classifier, plan, images)
    if not places:
        try:
            with watching("error", lambda: None):
                samples.audit(classifier, plan, images)
        except RuntimeError as error:
            if SYNCHRONIZED not in str(error):
                raise
            places[_place(traceback.extract_tb(error.__traceback__))] += 1
    return dict(places.most_common())


@contextmanager
def watching(mode: Mode, waited: Callable[[], None]) -> Iterator[None]:
    """Watch for synchronizations, only while the work of a micro-batch is done.

    Args:
        mode: Whether work goes on after one, or raises RuntimeError.
        waited: Called in the midst of each with mode `warn`.
    """
    fits = MicroBatches._fits

    def watched(self: MicroBatches, work: Callable[[slice], None], part: slice) -> bool:
        def watched_work(part: slice) -> None:
            # work may begin micro-batches of its own
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode(mode)
            try:
                work(part)
            finally:
                torch.cuda.set_sync_debug_mode(before)

        return fits(self, watched_work, part)

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        show = warnings.showwarning

        def showwarning(message: Warning | str, *others: object, **options: object) -> None:
            if SYNCHRONIZED in str(message):
                waited()
            elif "prototype" not in str(message):  # what torch says of this mode itself
                show(message, *others, **options)  # type: ignore[arg-type]

        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", showwarning)
        patch.setattr(MicroBatches, "_fits", watched)
        yield


def _place(stack: traceback.StackSummary) -> str:
    """The innermost line of the engine, as `explainers/gradient.py:31 in gradient: code`."""
    for frame in reversed(stack):
        path = Path(frame.filename)
        # the micro-batches only do the work
        if path.is_relative_to(ENGINE) and path.name != "micro_batches.py":
            return f"{path.relative_to(ENGINE)}:{frame.lineno} in {frame.name}: {frame.line}"
    return "outside of the engine"
