"""A view of a model that gives it inputs it can take and reads the logits out of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs, Select
from auditcore.errors import ModelOutputInvalid
from auditcore.models.logits import to_logits

Batches = Literal["any", "single", "several", "even"]
"""Batches that a model takes: of any size, of one image only, of at least two images, or of an even number."""

SELECT_FIELD = "model.select"
LOGITS = "logits"
"""The entry that is read if none is named."""


@final
@dataclass(frozen=True)
class Habits:
    """How a model wants to be called, and how its logits are found.

    Attributes:
        outputs: What the model returns.
        scores: How logits become probabilities.
        columns: Number of columns of what it returns; one column is a binary classifier.
        select: Entry that holds the class scores; None for a model that returns one tensor.
        copies_input: Whether it changes its input in place, so that it gets a copy.
        batches: Batches that it takes.
        reshapes: Whether its rows have axes of length one that are removed, or lack the axis of images in a batch of
            one.
        tracks_gradients: Whether it only runs where gradients are tracked, such as one that calls `register_hook` or
            `retain_grad` on its feature maps.
        converts: Whether it returns another type than float32, so that its answers are converted.
    """

    outputs: Outputs
    scores: Scores
    columns: int
    select: Select | None = None
    copies_input: bool = False
    batches: Batches = "any"
    reshapes: bool = False
    tracks_gradients: bool = False
    converts: bool = False

    @property
    def plain(self) -> bool:
        """Whether the model itself takes images and returns logits."""
        converts = self.columns == 1 or not (
            self.outputs == "logits" or (self.outputs == "log_probabilities" and self.scores == "softmax")
        )
        return not (
            converts
            or self.select is not None
            or self.copies_input
            or self.reshapes
            or self.tracks_gradients
            or self.converts
            or self.batches != "any"
        )


@final
class Adapted(nn.Module):
    """A model as a function from images to logits; layers, parameters and buffers are the model's own.

    All paths of layers stay the same, and torch.fx traces through it.
    """

    def __init__(self, module: nn.Module, habits: Habits) -> None:
        """Create a view of `module`, which is not copied."""
        super().__init__()
        # the same dictionaries, so that every path refers to the same layer
        self._modules = module._modules  # noqa: SLF001 - a view of it
        self._parameters = module._parameters  # noqa: SLF001
        self._buffers = module._buffers  # noqa: SLF001
        self.training = module.training
        self.habits = habits
        hooked = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001
        # torch.fx does not follow a call of a module that is not registered; `forward` itself skips hooks
        self._run: Callable[[Tensor], Any] = module.__call__ if hooked else module.forward

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - a tensor, or its symbol while torch.fx traces
        """Return logits (N,classes) of normalized images (N,C,H,W)."""
        match self.habits.batches:
            case "any":
                return self._logits(x)
            case "single":
                return torch.cat([self._logits(image) for image in x.split(1)])
            case "several":
                return self._logits(x if len(x) > 1 else x.expand(2, -1, -1, -1))[: len(x)]
            case "even":
                return self._logits(x if len(x) % 2 == 0 else torch.cat((x, x[-1:])))[: len(x)]

    def train(self, mode: bool = True) -> Adapted:  # noqa: FBT001, FBT002 - the signature of PyTorch
        """Switch the model between training and evaluation, its outermost module included."""
        owner = getattr(self._run, "__self__", None)
        if isinstance(owner, nn.Module):
            owner.training = mode
        return super().train(mode)

    def _logits(self, x: Any) -> Any:  # noqa: ANN401
        # a symbol of torch.fx is no tensor
        if not self.habits.tracks_gradients or not isinstance(x, Tensor) or x.requires_grad:
            return self._read(x)
        with torch.inference_mode(mode=False), torch.enable_grad():
            return self._read(x.clone().requires_grad_()).detach()

    def _read(self, x: Any) -> Any:  # noqa: ANN401
        habits = self.habits
        returned = selected(self._run(x.clone() if habits.copies_input else x), habits.select)
        if habits.reshapes:
            returned = returned.reshape(x.shape[0], habits.columns)
        if habits.converts:
            returned = returned.float()
        return to_logits(returned, outputs=habits.outputs, scores=habits.scores, columns=habits.columns)


def selected(returned: Any, select: Select | None) -> Any:  # noqa: ANN401 - whatever a foreign model returns
    """Return the entry that holds the class scores.

    Args:
        returned: What the model returned.
        select: Position or name of the entry; None for the whole.
    """
    if select is None:
        return returned
    if isinstance(select, str) and not isinstance(returned, Mapping):
        return getattr(returned, select)
    return returned[select]


def find_entry(returned: Any, select: Select | None) -> Select | None:  # noqa: ANN401
    """Return which entry of what a model returned holds the class scores.

    Args:
        returned: What the model returned.
        select: The declared entry, if any.

    Raises:
        ModelOutputInvalid: There is no such entry, or none is declared and none is called `logits`.
    """
    if select is not None:
        try:
            found = selected(returned, select)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            msg = f"`select` is {select!r}, but the model returns {_described(returned)}; name one of its entries"
            raise ModelOutputInvalid(msg, field=SELECT_FIELD) from error
        if not isinstance(found, Tensor):
            msg = f"entry {select!r} of what the model returns is a {type(found).__name__}; select the class scores"
            raise ModelOutputInvalid(msg, field=SELECT_FIELD)
        return None if isinstance(returned, Tensor) else select
    if isinstance(returned, Tensor):
        return None
    named = returned.get(LOGITS) if isinstance(returned, Mapping) else getattr(returned, LOGITS, None)
    if isinstance(named, Tensor):
        return LOGITS
    entries = list(returned.items() if isinstance(returned, Mapping) else enumerate(_sequence(returned)))
    # such as a loss that is None without labels
    filled = [(name, entry) for name, entry in entries if not isinstance(entry, (str, int, float, NoneType))]
    if len(filled) == 1 and isinstance(filled[0][1], Tensor):
        only: Select = filled[0][0]
        return only
    msg = (
        f"the model must return one tensor of logits, got {_described(returned)}; set `select` to the entry with the "
        "class scores, or wrap the model so that it returns only them"
    )
    raise ModelOutputInvalid(msg, field=SELECT_FIELD)


def _sequence(returned: object) -> list[Any] | tuple[Any, ...]:
    return returned if isinstance(returned, (list, tuple)) else ()


def _described(returned: object) -> str:
    kind = type(returned).__name__
    if isinstance(returned, Tensor):
        return f"one tensor of shape {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"{kind} with {', '.join(repr(name) for name in list(returned)[:8])}"
    entries = [
        str(tuple(entry.shape)) if isinstance(entry, Tensor) else type(entry).__name__
        for entry in _sequence(returned)[:8]
    ]
    return f"{kind} of {', '.join(entries)}" if entries else kind
