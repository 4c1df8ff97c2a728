"""Work in micro-batches that shrink when memory runs out, instead of failing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from auditcore.devices.exhaustion import EXHAUSTED, is_out_of_memory
from auditcore.errors import MemoryExhausted

BESIDE_PASSES = (
    "memory ran out beside the passes of the model, for images, maps and their comparison; use fewer explainers, a "
    "smaller input size, or a worker with more memory"
)


@dataclass
class MicroBatches:
    """How many images pass through the model at once, for everything that one shard does.

    Attributes:
        size: Images a pass, at most.
        halvings: How often memory ran out.
    """

    size: int
    halvings: int = 0

    def each(self, count: int, work: Callable[[slice], None], *, tick: Callable[[], None] = lambda: None) -> None:
        """Do work on consecutive slices of at most `size`; where memory runs out, repeat a slice in halves.

        Args:
            count: How many there are to do.
            work: Does one slice. It may be called again for images of a slice that it did not finish.
            tick: Called after each slice; may raise AuditCancelled.

        Raises:
            MemoryExhausted: A single image does not fit.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            if self._fits(work, part):
                start = part.stop
                tick()
            else:
                self._halve(part.stop - part.start)

    def _fits(self, work: Callable[[slice], None], part: slice) -> bool:
        try:
            work(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # whatever the frames of the traceback hold must go before there is room
            error.__traceback__ = None
            return False
        return True

    def _halve(self, tried: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried == 1:
            raise MemoryExhausted(EXHAUSTED, field="model")
        self.size = tried // 2
        self.halvings += 1


@contextmanager
def blaming_size(reason: str = EXHAUSTED) -> Iterator[None]:
    """Work that is as small as it can be: where memory runs out inside the block, the audit needs too much.

    Args:
        reason: What needs too much, and what to change.

    Raises:
        MemoryExhausted: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhausted(reason, field="model") from error
