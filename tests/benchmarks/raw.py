"""Raw throughput of the bare model: forward, and forward with the gradient of the input.

A full scan over batch sizes and memory formats at the beginning finds the best configuration of each kind; it is
measured again between the rows and at the end, since the speed of a machine drifts. A row is judged by the measurements
just before and just after it (`ideal.around`), each the best of a few rounds.

The engine runs a folded copy of the model, which needs fewer operations for the same logits. Engine efficiency is
relative to the model as it was loaded; the folded copy is measured too, so that a row also says how much of its
own module's speed the engine reaches. Its speed around a row follows from how much faster it was in the scan.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from auditcore.models.classifier import Classifier
from benchmarks.ideal import Rates
from benchmarks.timing import Precision, autocast, seconds_of

Kind = Literal["forward", "gradient"]
MemoryFormat = Literal["contiguous", "channels_last"]

KINDS: tuple[Kind, Kind] = ("forward", "gradient")

FORMATS: Mapping[MemoryFormat, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
"""The one that is usually faster first, so that the other needs fewer rounds."""

BATCH_SIZES: Mapping[str, Sequence[int]] = {"cpu": (1, 4, 8, 16, 32), "cuda": (1, 16, 64, 128, 256)}
HOPELESS = 1.1
"""A configuration whose first round is so many times slower than the best one gets no further rounds."""


@dataclass(frozen=True)
class Configuration:
    """One way to run the bare model."""

    kind: Kind
    memory_format: MemoryFormat
    batch: int
    precision: Precision = "fp32"


@dataclass
class RawThroughput:
    """Speed of one bare model.

    Attributes:
        classifier: The model.
        source: Its module as it was loaded, or the folded one; what is measured is a copy without hooks.
        rounds: Timings of each configuration, of which the best counts.
        found: Images a second of every configuration of the scan.
        again: Rates measured between the rows, in order.
    """

    classifier: Classifier
    source: nn.Module
    rounds: int
    found: dict[Configuration, float] = field(default_factory=dict)
    again: list[Rates] = field(default_factory=list)
    _modules: dict[MemoryFormat, nn.Module] = field(default_factory=dict)

    def scan(
        self, precisions: Sequence[Precision] = ("fp32",), formats: Sequence[MemoryFormat] = tuple(FORMATS)
    ) -> None:
        """Measure every configuration; one that does not fit into memory is left out."""
        for precision in precisions:
            for memory_format in formats:
                for batch in BATCH_SIZES[self.classifier.device.type]:
                    for kind in KINDS:
                        configuration = Configuration(kind, memory_format, batch, precision)
                        try:
                            self.found[configuration] = self._speed(configuration)
                        except torch.OutOfMemoryError:
                            torch.cuda.empty_cache()
        kept = {self.best("forward").memory_format, self.best("gradient").memory_format}
        for memory_format in set(self._modules) - kept:
            del self._modules[memory_format]

    def best(self, kind: Kind, precision: Precision = "fp32") -> Configuration:
        """The fastest configuration of a kind.

        Raises:
            RuntimeError: None was measured.
        """
        measured = [c for c in self.found if c.kind == kind and c.precision == precision]
        if not measured:
            msg = f"no {kind} pass of {precision} fitted into memory"
            raise RuntimeError(msg)
        return max(measured, key=lambda c: self.found[c])

    def of_scan(self, precision: Precision = "fp32") -> Rates:
        """The best of the scan."""
        return Rates(
            forward=self.found[self.best("forward", precision)], gradient=self.found[self.best("gradient", precision)]
        )

    def now(self) -> Rates:
        """Measure the best configurations of fp32 again; nothing is cold any more."""
        forward, gradient = (self._warm_speed(self.best(kind), self._work(self.best(kind))) for kind in KINDS)
        self.again.append(Rates(forward, gradient))
        return self.again[-1]

    def format_for_single_images(self) -> MemoryFormat:
        """The memory format in which one image at a time is explained fastest."""
        least = min(c.batch for c in self.found)
        single = [c for c in self.found if c.batch == least and c.kind == "gradient" and c.precision == "fp32"]
        return max(single, key=lambda c: self.found[c]).memory_format

    def record(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "unit": "images per second",
            "scan": [{**asdict(c), "images_per_second": speed} for c, speed in self.found.items()],
            "best": {
                precision: asdict(self.of_scan(precision))
                for precision in dict.fromkeys(c.precision for c in self.found)
            },
            "between_rows": [asdict(rates) for rates in self.again],
        }

    def _speed(self, configuration: Configuration) -> float:
        """Images a second: the best of a few rounds after one that does not count."""
        work = self._work(configuration)
        device = self.classifier.device
        best = max((v for c, v in self.found.items() if _alike(c, configuration)), default=0.0)
        first = seconds_of(work, device)
        if configuration.batch / first * HOPELESS < best:
            return configuration.batch / first
        return self._warm_speed(configuration, work)

    def _warm_speed(self, configuration: Configuration, work: Callable[[], object]) -> float:
        return configuration.batch / min(seconds_of(work, self.classifier.device) for _ in range(self.rounds))

    def _work(self, configuration: Configuration) -> Callable[[], object]:
        device, shape = self.classifier.device, self.classifier.shape
        module = self.module(configuration.memory_format)
        x = torch.rand(configuration.batch, *shape, device=device)
        x = x.contiguous(memory_format=FORMATS[configuration.memory_format])

        def forward() -> Tensor:
            with torch.inference_mode(), autocast(device, configuration.precision):
                output: Tensor = module(x)
            return output

        def gradient() -> Tensor:
            leaf = x.detach().requires_grad_()
            with autocast(device, configuration.precision):
                score = module(leaf)[:, 0].sum()
            return torch.autograd.grad(score, leaf)[0]

        return forward if configuration.kind == "forward" else gradient

    def module(self, memory_format: MemoryFormat) -> nn.Module:
        if memory_format not in self._modules:
            self._modules[memory_format] = bare(self.source, memory_format)
        return self._modules[memory_format]


def bare(source: nn.Module, memory_format: MemoryFormat) -> nn.Module:
    """A copy of a classifier's module in a memory format, which no hook counts."""
    # the ledger is replaced by nothing: a hook would cost, and count passes that no audit made
    module = copy.deepcopy(source)
    module._forward_hooks.clear()
    return module.to(memory_format=FORMATS[memory_format])


def _alike(one: Configuration, other: Configuration) -> bool:
    return (one.kind, one.precision) == (other.kind, other.precision)
