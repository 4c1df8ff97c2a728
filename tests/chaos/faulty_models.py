"""Factories of the digits network that are slow, or that break their process at one image.

They behave the same in every process, so that scores can be compared byte by byte.
"""

from __future__ import annotations

import io
import os
import signal
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor, fx, nn

import digits

PAUSE_S = 0.05
"""What a pass through the slow network waits: a shard then takes seconds and almost no processor."""

HUNGRY_BYTES = 2**36
"""More memory than any machine that runs the tests."""

MARK_PX = 8
"""Pixels at the left of the first row that tell the poison image from all others."""


def poison_png() -> bytes:
    """A PNG file of the size of a digit, whose first pixels are white and black in turn."""
    pixels = np.full((digits.SIDE, digits.SIDE, 3), 128, dtype=np.uint8)
    pixels[0, :MARK_PX] = np.array([255, 0] * (MARK_PX // 2), dtype=np.uint8)[:, None]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def is_poison(x: Tensor) -> bool:
    """Whether any image of a normalized batch carries the mark."""
    mark = x.detach()[:, 0, 0, :MARK_PX]
    even, odd = mark[:, 0::2], mark[:, 1::2]
    return bool(((even > 1.7) & (odd < -0.7)).all(dim=1).any())


def pause(x: Tensor) -> Tensor:
    """Wait, and return the same batch."""
    time.sleep(PAUSE_S)
    return x


def kill_at_poison(x: Tensor) -> Tensor:
    """End the process, as the kernel does when memory runs out, if the batch holds the poison image."""
    if is_poison(x):
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def hang_at_poison(x: Tensor) -> Tensor:
    """Wait for an hour if the batch holds the poison image."""
    if is_poison(x):
        time.sleep(3600)
    return x


def take_memory_at_poison(x: Tensor) -> Tensor:
    """Ask for more memory than there is if the batch holds the poison image."""
    if is_poison(x):
        x = x + torch.ones(HUNGRY_BYTES // 4).sum() * 0
    return x


# a model that is traced to be rewritten keeps the calls, instead of what they did while it was traced
for _name in ("pause", "kill_at_poison", "hang_at_poison", "take_memory_at_poison"):
    fx.wrap(_name)


class SlowNet(digits.DigitNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pause(x))


class KillingNet(digits.DigitNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(kill_at_poison(x))


class HangingNet(digits.DigitNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(hang_at_poison(x))


class HungryNet(digits.DigitNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(take_memory_at_poison(x))


def build_slow() -> nn.Module:
    return SlowNet()


def build_killing() -> nn.Module:
    return KillingNet()


def build_hanging() -> nn.Module:
    return HangingNet()


def build_hungry() -> nn.Module:
    return HungryNet()


FACTORIES = (
    "digits:build",
    *(f"chaos.faulty_models:build_{name}" for name in ("slow", "killing", "hanging", "hungry")),
)
"""For `AUDIT_FACTORIES`."""
