"""What a shard cost: passes by purpose, and the peak of memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch

from auditcore.contracts.shards import CheckCost
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.errors import AuditCancelled, AuditcoreError
from auditcore.models.classifier import Classifier
from auditcore.models.foreign_code import failure_of_model
from auditcore.models.pass_ledger import PassLedger
from auditcore.models.sanity import LogitGuard


@final
@dataclass
class PassMeter:
    """Passes by purpose, read from the ledgers of models.

    Attributes:
        classifiers: The models that make the passes, the model under audit first. One that is listed twice counts once.
        costs: Purpose, such as the name of a check -> passes made for it so far.
    """

    classifiers: Sequence[Classifier]
    costs: dict[str, CheckCost] = field(default_factory=dict)

    @property
    def forward_images(self) -> int:
        """Images that have passed forward through the models, since they were loaded."""
        return sum(ledger.forward_images for ledger in self._ledgers)

    @property
    def backward_images(self) -> int:
        """Images that have passed backward."""
        return sum(ledger.backward_images for ledger in self._ledgers)

    @property
    def _ledgers(self) -> Collection[PassLedger]:
        return {id(one.ledger): one.ledger for one in self.classifiers}.values()

    @contextmanager
    def measuring(self, purpose: str) -> Iterator[None]:
        """Count the passes made inside the block under `purpose`.

        Raises:
            ModelOutputInvalid: The model returned NaN or infinite logits inside the block, or its code failed.
        """
        forward, backward = self.forward_images, self.backward_images
        guards = [one.guard for one in self.classifiers]
        for guard in guards:
            guard.forget()
        try:
            yield
        except (AuditcoreError, torch.OutOfMemoryError) as error:
            # code that gets NaN logits may fail before the guard is asked about them
            if not isinstance(error, AuditCancelled):
                _blame_invalid_logits(guards, error)
            raise
        except Exception as error:
            _blame_invalid_logits(guards, error)
            # on a CPU it has no type of its own
            if is_out_of_memory(error):
                raise
            # the model is foreign code that may fail for some images only
            failure = failure_of_model(error, purpose=purpose)
            if failure is not None:
                raise failure from error
            raise
        # waits for the device; up to here work was only queued
        for guard in guards:
            guard.require_finite()
        before = self.costs.get(purpose, CheckCost())
        self.costs[purpose] = CheckCost(
            forward_images=before.forward_images + self.forward_images - forward,
            backward_images=before.backward_images + self.backward_images - backward,
        )


def _blame_invalid_logits(guards: Sequence[LogitGuard], error: Exception) -> None:
    """Raise the error for logits that are no numbers, in place of one that followed from them, if there were any."""
    for guard in guards:
        if guard.has_seen_invalid():
            raise guard.error() from error


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
