"""Code of the model under audit: what its errors say, copies of it, and whether it is a compiled program."""

from __future__ import annotations

import copy
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditcore.errors import ModelNotLoadable, ModelOutputInvalid

_LONGEST = 300
"""Characters of a foreign message that an error repeats."""


class Program(nn.Module):
    """A compiled program as a module: its layers and weights cannot be read or altered.

    A program itself takes no hooks and does not let its parameters be frozen all at once.
    """

    def __init__(self, program: nn.Module) -> None:
        """Wrap a program."""
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> object:
        """Return what the program returns for normalized images (N,C,H,W)."""
        returned: object = self.program(x)
        return returned


def is_program(module: nn.Module) -> bool:
    """Return whether a model is a program of TorchScript or torch.export, or contains one."""
    return any(isinstance(layer, (Program, torch.jit.ScriptModule)) for layer in module.modules())


def said(error: BaseException) -> str:
    """Return the type of an error of foreign code and the one line of its message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # an error inside of TorchScript begins with a traceback and ends with its cause
    scripted = "TorchScript interpreter" in lines[0]
    line = lines[-1] if scripted else lines[0]
    text = line if scripted and "Error" in line else f"{type(error).__name__}: {line}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def failure_of_model(error: Exception, *, purpose: str) -> ModelOutputInvalid | None:
    """Return the error for an exception that a pass through the model raised; None for any other exception.

    An exception belongs to the model if it was raised inside of a module or of autograd and not by code of this
    package, which runs there too, as hooks, or by a handler of a signal, such as one that ends a shard after its time.

    Args:
        error: The exception.
        purpose: What the pass was made for, such as the name of a check.
    """
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    own = [number for number, file in enumerate(files) if _PACKAGE in file.parents]
    below = files[own[-1] + 1 :] if own else files
    if not any(file.parts[-3:] in _PASSES for file in below) or raised_by_a_signal(error):
        return None
    msg = f"the model failed in a pass for {purpose!r} ({said(error)}); try it on these images outside of the audit"
    return ModelOutputInvalid(msg, field="model")


def raised_by_a_signal(error: BaseException) -> bool:
    """Return whether an exception was raised by the handler of a signal, which may run in the middle of anything.

    Code that catches whatever foreign code raises has to let it pass: it ends a shard that takes too long.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return last is not None and any(getattr(one, "__code__", None) is last.tb_frame.f_code for one in handlers)


_PACKAGE = Path(__file__).parents[1]
_PASSES = {("nn", "modules", "module.py"), ("torch", "autograd", "__init__.py"), ("torch", "autograd", "graph.py")}
"""Files of PyTorch through which every pass forward or backward goes."""


def copied(module: nn.Module, *, shared: tuple[object, ...] = ()) -> nn.Module:
    """Return a deep copy of a module, also where it keeps results of earlier passes.

    `copy.deepcopy` refuses tensors that were computed with gradients, such as the weight that `weight_norm` of earlier
    versions of PyTorch recomputes in every pass, or a feature map that a forward stores. They are copied without their
    history.

    Args:
        module: The module.
        shared: Objects that original and copy have in common.

    Raises:
        ModelNotLoadable: It holds something that cannot be copied.
    """
    memo: dict[int, Any] = {id(one): one for one in shared}
    for layer in module.modules():
        if not isinstance(layer, torch.jit.ScriptModule):
            memo.update((id(value), value.detach().clone()) for value in _computed(vars(layer)))
    try:
        return copy.deepcopy(module, memo)
    # objects of foreign classes raise anything when they are copied
    except Exception as error:
        msg = f"the model cannot be copied ({said(error)}); remove locks, files and generators from its attributes"
        raise ModelNotLoadable(msg, field="model") from error


def _computed(value: object) -> Iterator[Tensor]:
    """Return the tensors with a history in an attribute, or in containers in it."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _computed(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _computed(entry)
