"""What a shard cost: passes by purpose, and the peak of memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch

from auditcore.contracts.shards import CheckCost
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.errors import AuditCancelled, AuditcoreError
from auditcore.models.classifier import Classifier
from auditcore.models.foreign_code import failure_of_model


@final
@dataclass
class PassMeter:
    """Passes by purpose, read from the model's ledger.

    Attributes:
        classifier: The model that makes the passes.
        costs: Purpose, such as the name of a check -> passes made for it so far.
    """

    classifier: Classifier
    costs: dict[str, CheckCost] = field(default_factory=dict)

    @contextmanager
    def measuring(self, purpose: str) -> Iterator[None]:
        """Count the passes made inside the block under `purpose`.

        Raises:
            ModelOutputInvalid: The model returned NaN or infinite logits inside the block, or its code failed.
        """
        ledger = self.classifier.ledger
        forward, backward = ledger.forward_images, ledger.backward_images
        guard = self.classifier.guard
        guard.forget()
        try:
            yield
        except (AuditcoreError, torch.OutOfMemoryError) as error:
            # code that gets NaN logits may fail before the guard is asked about them
            if not isinstance(error, AuditCancelled) and guard.has_seen_invalid():
                raise guard.error() from error
            raise
        except Exception as error:
            if guard.has_seen_invalid():
                raise guard.error() from error
            # on a CPU it has no type of its own
            if is_out_of_memory(error):
                raise
            # the model is foreign code that may fail for some images only
            failure = failure_of_model(error, purpose=purpose)
            if failure is not None:
                raise failure from error
            raise
        # waits for the device; up to here work was only queued
        guard.require_finite()
        before = self.costs.get(purpose, CheckCost())
        self.costs[purpose] = CheckCost(
            forward_images=before.forward_images + ledger.forward_images - forward,
            backward_images=before.backward_images + ledger.backward_images - backward,
        )


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
