"""How many images went through a model, counted on the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn


@final
@dataclass(eq=False)
class PassLedger:
    """Images that went through the model, counted by hooks on the model; one for a model and its altered copies.

    Attributes:
        forward_images: Images passed forward.
        backward_images: Images passed backward.
    """

    forward_images: int = 0
    backward_images: int = 0
    _paused: bool = False

    def attach(self, module: nn.Module) -> None:
        """Count every call of `module` from now on, whatever code makes it."""
        module.register_forward_hook(self._count)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside the block: passes of a calibration show the model no image of an audit."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def count(self, *, forward: int, backward: int = 0) -> None:
        """Count passes that no hook sees, because they replay a recording."""
        if not self._paused:
            self.forward_images += forward
            self.backward_images += backward

    def _count(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not self._paused:
            self.forward_images += len(output)
            if output.requires_grad:
                output.register_hook(self._count_backward)

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_images += len(gradient)
