"""Checkpoints: everything that the rest of a training depends on, as a file of safetensors.

No code runs when one is read. The header holds the history as JSON; the tensors are the weights, what the optimizer
remembers and what the method remembers. Random numbers need no place in it: they follow from the number of the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import final

import safetensors
import safetensors.torch
from pydantic import Field, ValidationError
from torch import Tensor

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.training.report import Epoch
from auditcore.errors import CheckpointInvalid

_HEADER = "auditcore_training"
_FIELD = "checkpoint"
_LENGTH = 8
"""Bytes of the length of the header, with which a file of safetensors begins."""


@final
class History(Contract):
    """What has happened so far.

    Attributes:
        training: Digest of everything that decides the weights: plan, data and starting weights.
        step: Number of steps that are done.
        epochs: Epochs that are done.
        losses: Sum of the losses of the current epoch's steps.
        facts: Sums of what the method said of these steps.
        epoch_seconds: Seconds of the current epoch.
        seconds: Seconds of the whole training.
        forward_images: Images passed forward.
        backward_images: Images passed backward.
    """

    training: Sha256
    step: int = Field(default=0, ge=0)
    epochs: tuple[Epoch, ...] = ()
    losses: float = 0.0
    facts: dict[str, float] = Field(default_factory=dict)
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    forward_images: int = 0
    backward_images: int = 0


def write_checkpoint(history: History, parts: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """A checkpoint.

    Args:
        history: What has happened so far.
        parts: Named groups of tensors, such as `weights`.
    """
    tensors = {
        f"{part}/{name}": value.detach().cpu().contiguous().clone()
        for part, values in parts.items()
        for name, value in values.items()
    }
    return safetensors.torch.save(tensors, metadata={_HEADER: history.model_dump_json()})


def read_checkpoint(data: bytes, *, training: Sha256) -> tuple[History, dict[str, dict[str, Tensor]]]:
    """The history and the groups of tensors of a checkpoint.

    Args:
        data: Its bytes.
        training: Digest of the training that is to go on.

    Raises:
        CheckpointInvalid: It is damaged, or of another training.
    """
    try:
        tensors = safetensors.torch.load(data)
        # its length has just been checked
        header = json.loads(data[_LENGTH : _LENGTH + int.from_bytes(data[:_LENGTH], "little")])
        history = History.model_validate_json(header["__metadata__"][_HEADER])
    except (safetensors.SafetensorError, ValidationError, ValueError, KeyError) as error:
        msg = "the checkpoint is damaged; start the training anew"
        raise CheckpointInvalid(msg, field=_FIELD) from error
    if history.training != training:
        msg = "the checkpoint belongs to another training; plan, data and starting weights have to be the same"
        raise CheckpointInvalid(msg, field=_FIELD)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    return history, parts
