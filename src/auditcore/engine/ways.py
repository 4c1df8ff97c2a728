"""How passes of the plain model run on CUDA: kernel by kernel, as recorded graphs, or compiled.

A way is tried only if the audit is long enough to win back the time that trying takes, and kept only if it was measured
to be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from auditcore.contracts.shards import Calibration, Way
from auditcore.contracts.speed import Speed
from auditcore.engine.calibration import pass_seconds
from auditcore.models.classifier import Classifier
from auditcore.models.speed import failure_of
from auditcore.models.static_passes import Kind, StaticPasses, room_for_compilation

PRICE_S: dict[Way, float] = {"graphs": 2.0, "compiled": 40.0}
"""Seconds to set up passes of each way. Compiling resnet50 and recording its passes took 17 to 25 s next to an H200."""

EXPECTED_GAIN: dict[Way, float] = {"graphs": 0.01, "compiled": 0.25}
"""Share of the time of passes that each way saves; the smaller it is, the longer an audit must be to win back its
set-up time. On an H200 recorded passes of 256 images of resnet50 took 0.5 to 2 % less time, compiled ones 28 to
50 %."""


@dataclass(frozen=True)
class Ahead:
    """Passes that an audit will still make.

    Attributes:
        forward: Images that pass only forward.
        backward: Images that pass forward and backward.
    """

    forward: float
    backward: float

    def seconds(self, calibration: Calibration) -> float:
        """How long they take at a measured speed."""
        return self.forward / calibration.forward_per_s + self.backward / calibration.gradient_per_s


def worth_trying(seconds: float, speed: Speed, tried: Collection[Way]) -> tuple[Way, ...]:
    """Ways whose set-up time an audit wins back, the fastest first.

    Args:
        seconds: Time of the remaining passes kernel by kernel.
        speed: Whether the model may be compiled.
        tried: Ways that were measured on this model before.
    """
    allowed: tuple[Way, ...] = ("compiled", "graphs") if speed.compile else ("graphs",)
    return tuple(way for way in allowed if way not in tried and seconds * EXPECTED_GAIN[way] >= PRICE_S[way])


def choose_way(classifier: Classifier, ahead: Ahead, speed: Speed, clock: Callable[[], float]) -> None:
    """Record passes of a calibrated classifier if that saves time; its calibration then gives their speed.

    A classifier that was here before keeps its way, unless this audit is long enough for a way that was not tried yet.

    Args:
        classifier: Calibrated.
        ahead: Passes that the audit will make.
        speed: Whether it may be compiled.
        clock: Seconds, monotonic.
    """
    calibration = classifier.calibration
    if calibration is None or classifier.device.type != "cuda" or classifier.source is not None:
        return
    for way in worth_trying(ahead.seconds(calibration), speed, classifier.ways_tried):
        classifier.ways_tried.add(way)
        if _take(classifier, calibration, way, clock, exact=speed.exact):
            # compiled passes are recorded too, so graphs of the model's own kernels cannot be faster
            classifier.ways_tried.add("graphs")
            return


def _take(
    classifier: Classifier, calibration: Calibration, way: Way, clock: Callable[[], float], *, exact: bool
) -> bool:
    """Run passes one way and keep each kind that is faster than before; False if the way cannot be used."""
    static = StaticPasses(
        classifier.folded.forward,
        images=calibration.micro_batch,
        shape=classifier.shape,
        device=classifier.device,
        way=way,
        tries_kernels=not exact,
        memory_format=classifier.memory_format,
    )
    before, classifier.static = classifier.static, None
    speeds: dict[Kind, float] = {"logits": calibration.forward_per_s, "gradient": calibration.gradient_per_s}
    gained = False
    try:
        with classifier.ledger.paused(), room_for_compilation():
            for kind, known in speeds.items():
                static.record(kind)
                found = calibration.micro_batch / pass_seconds(static, kind, classifier.device, clock)
                if found > known:
                    speeds[kind], gained = found, True
                    if kind == "gradient":
                        static.record("predicted")
                else:
                    static.forget(kind)
    except torch.OutOfMemoryError:
        del static
        torch.cuda.empty_cache()
        classifier.static = before
        return False
    # compilers, toolchains and foreign models fail in many ways; the model then runs as before
    except Exception as error:  # noqa: BLE001
        torch.cuda.synchronize(classifier.device)
        if way == "compiled":
            classifier.static_failure = failure_of(error)
        classifier.static = before
        return False
    classifier.static = static if gained else before
    if gained:
        classifier.calibration = calibration.model_copy(
            update={
                "way": way,
                "forward_per_s": round(speeds["logits"], 3),
                "gradient_per_s": round(speeds["gradient"], 3),
            }
        )
    return True
