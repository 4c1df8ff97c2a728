"""Faster variants of a model: under autocast, and compiled.

Both keep the paths of its layers and hand out float32 logits, so that callers need not know which one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn


def failure_of(error: Exception) -> str:
    """Return why compiling failed, in one line; torch puts the cause on the second line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join((f"{type(error).__name__}:", *lines[:2]))


@final
class Autocast(nn.Module):
    """A view of a model that runs it under bf16 autocast; layers, parameters and buffers are the model's own.

    Convolutions and matrix products compute in bfloat16, operations that autocast lists as
    sensitive in float32. Hooks on the model itself do not see passes through this view; hooks on its layers do.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Create a view of `module`, which is not copied."""
        super().__init__()
        # the same dictionaries, so that every path refers to the same layer
        self._modules = module._modules  # noqa: SLF001 - a view of it
        self._parameters = module._parameters  # noqa: SLF001
        self._buffers = module._buffers  # noqa: SLF001
        self.training = module.training
        self._forward: Callable[[Tensor], Tensor] = module.forward
        self._device_type = device.type

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N,classes) in float32; without shape checks, which could not be compiled."""
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            output = self._forward(x)
        return output.float()


@final
class Compiled(nn.Module):
    """Runs a model through torch.compile, or directly if compilation failed or is not worth it.

    The batch size is dynamic, so a smaller last micro-batch needs no new compilation. Batches of one image, which would
    need graphs of their own, run directly. Passes with and without gradient are compiled separately, each when it is
    first needed.

    Attributes:
        gradients: Whether passes with gradient are compiled. On two cores those of the folded demo model were half as
            fast when compiled, where passes forward gained 7 %.
        failure: Why the model runs as it is; None if nothing has failed.
    """

    def __init__(self, module: nn.Module, *, gradients: bool) -> None:
        """Compile nothing yet."""
        super().__init__()
        self.gradients = gradients
        # not registered: its layers belong to the classifier's module, and hooks on them have no effect here
        self._plain: Callable[[Tensor], Tensor] = module.forward
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(module.forward)
        self._tried: set[bool] = set()
        self.failure: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N,classes) of normalized images (N,3,H,W)."""
        differentiated = torch.is_grad_enabled() and x.requires_grad
        if len(x) == 1 or (differentiated and not self.gradients) or not self._works(x, differentiated=differentiated):
            return self._plain(x)
        return self._run(x)

    def _works(self, x: Tensor, *, differentiated: bool) -> bool:
        """Return whether this kind of pass compiles; tested once, with a pass that the ledger does not count."""
        if self.failure is None and differentiated not in self._tried:
            self._tried.add(differentiated)
            try:
                # backward passes are compiled when they first run, so a forward pass would not be enough
                leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(differentiated)
                output = self._run(leaf)
                if differentiated:
                    torch.autograd.grad(output.sum(), leaf)
            except torch.OutOfMemoryError:
                self._tried.discard(differentiated)
                raise
            # compilers, toolchains and foreign models fail in many ways; each of them runs without compilation
            except Exception as error:  # noqa: BLE001
                self.failure = failure_of(error)
        return self.failure is None

    def _run(self, x: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(x, 0)  # noqa: SLF001 - torch has no public function for this
        return self._compiled(x)
