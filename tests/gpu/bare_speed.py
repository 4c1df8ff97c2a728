"""How fast a bare model can be: as it is, captured in a CUDA graph, compiled, and both.

The best of these is what the engine is measured against, so everything that makes a plain pass faster is tried: a model
with batch normalization folded in, channels last, static shapes, and no launches from Python.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from auditcore.models.classifier import Classifier
from auditcore.models.static_passes import recorded
from benchmarks.raw import KINDS, Kind, bare
from benchmarks.timing import drain, seconds_of
from gpu.precisions import Precision, bare_precision

BATCHES = (128, 256)
AS_FAST = 0.98
"""The smallest batch that reaches this share of the fastest one's speed is taken: the engine begins with the smallest,
and a graph of the same size is compiled only once."""

MEASURE_S = 0.15
"""Of one round of a configuration; two rounds, of which the faster counts."""


@dataclass
class Speeds:
    """Images a second of one kind of pass in one precision.

    Attributes:
        kind: Forward, or forward and the gradient of the input.
        precision: Of convolutions and matrix products.
        batch: Images a pass: the smallest of `BATCHES` that is about as fast as any, for the eager folded model.
        found: Way -> images per second.
        compile_seconds: Until the first compiled pass was done; None where nothing was compiled.
        failures: Way -> why it could not be measured.
    """

    kind: Kind
    precision: Precision
    batch: int
    found: dict[str, float] = field(default_factory=dict)
    compile_seconds: float | None = None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """Images a second of the fastest way."""
        return max(self.found.values())

    def record(self) -> dict[str, object]:
        """For the JSON file."""
        fastest = max(self.found, key=lambda way: self.found[way])
        return {
            "kind": self.kind,
            "precision": self.precision,
            "batch": self.batch,
            "images_per_second": dict(self.found),
            "best": self.best,
            "fastest_way": fastest,
            "compile_seconds": self.compile_seconds,
            "failures": dict(self.failures),
        }


class BareSpeed:
    """Measures one model in one precision.

    Attributes:
        classifier: The model.
        precision: For every pass; `fast_arithmetic` is set by the caller.
        batches: Sizes to choose from.
        backend: Of torch.compile; a rehearsal takes one that generates no code.
        measure_s: Of one round.
    """

    def __init__(
        self,
        classifier: Classifier,
        precision: Precision,
        *,
        batches: Sequence[int] = BATCHES,
        backend: str = "inductor",
        measure_s: float = MEASURE_S,
    ) -> None:
        self.classifier = classifier
        self.precision: Precision = precision
        self.batches = batches
        self.backend = backend
        self.measure_s = measure_s
        self._loaded = bare(classifier.module, "channels_last")
        self._folded = bare(classifier.folded, "channels_last")

    def measure(self, kind: Kind, *, compiled: bool) -> Speeds:
        """All ways of one kind of pass.

        Args:
            kind: Forward, or gradient.
            compiled: Whether the folded model is compiled too, which takes long.
        """
        eager = {batch: self._speed(self._pass(self._folded, kind, batch), batch) for batch in self._fitting(kind)}
        batch = chosen_batch(eager)
        speeds = Speeds(kind, self.precision, batch, {"folded, eager": eager[batch]})
        speeds.found |= {f"folded, eager, batch {size}": speed for size, speed in eager.items() if size != batch}
        loaded = self._pass(self._loaded, kind, batch)
        self._try(speeds, "as loaded, eager", lambda: self._speed(loaded, batch))
        self._capture(speeds, "as loaded, graph", loaded)
        self._capture(speeds, "folded, graph", self._pass(self._folded, kind, batch))
        if compiled:
            self._compile(speeds)
        return speeds

    def _compile(self, speeds: Speeds) -> None:
        module = torch.compile(self._folded, dynamic=False, backend=self.backend)
        work = self._pass(module, speeds.kind, speeds.batch)

        def first() -> float:
            started = time.perf_counter()
            work()
            drain(self.classifier.device)
            speeds.compile_seconds = time.perf_counter() - started
            return self._speed(work, speeds.batch)

        self._try(speeds, "folded, compiled", first)
        if "folded, compiled" in speeds.found:
            self._capture(speeds, "folded, compiled, graph", work)

    def _capture(self, speeds: Speeds, way: str, work: Callable[[], object]) -> None:
        if self.classifier.device.type != "cuda":
            return

        def captured() -> float:
            # what passes that were not captured hold on to; a large batch is captured only if it is given back
            torch.cuda.empty_cache()
            return self._speed(recorded(work)[0].replay, speeds.batch)

        self._try(speeds, way, captured)

    def _try(self, speeds: Speeds, way: str, work: Callable[[], float]) -> None:
        try:
            speeds.found[way] = work()
        # compilers and captures fail in many ways; the others still count
        except Exception as error:  # noqa: BLE001
            speeds.failures[way] = f"{type(error).__name__}: {error}"[:300]

    def _fitting(self, kind: Kind) -> list[int]:
        """Sizes that fit into memory, each passed once so that nothing is cold."""
        fitting = []
        for batch in self.batches:
            try:
                self._pass(self._folded, kind, batch)()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            fitting.append(batch)
        return fitting

    def _speed(self, work: Callable[[], object], batch: int) -> float:
        """Images a second: the better of two rounds after a call that does not count."""
        device = self.classifier.device
        work()
        calls = max(1, math.ceil(self.measure_s / seconds_of(work, device)))

        def round_() -> None:
            for _ in range(calls):
                work()

        return batch * calls / min(seconds_of(round_, device) for _ in range(2))

    def _pass(self, module: Callable[[Tensor], Tensor] | nn.Module, kind: Kind, batch: int) -> Callable[[], object]:
        device, shape = self.classifier.device, self.classifier.shape
        x = torch.rand(batch, *shape, device=device).contiguous(memory_format=torch.channels_last)

        def forward() -> Tensor:
            with torch.inference_mode(), bare_precision(device, self.precision):
                output: Tensor = module(x)
            return output

        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()

        def gradient() -> Tensor:
            with bare_precision(device, self.precision):
                score = module(leaf)[:, 0].sum()
            return torch.autograd.grad(score, leaf)[0]

        return forward if kind == KINDS[0] else gradient


def chosen_batch(speeds: Mapping[int, float]) -> int:
    """The smallest batch that is about as fast as the fastest.

    Args:
        speeds: Batch -> images per second.
    """
    return min(batch for batch, speed in speeds.items() if speed >= AS_FAST * max(speeds.values()))
