"""PixMix.

Source: Hendrycks et al. 2022, figure 3, and the authors' code.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from auditcore.contracts.training.methods.pixmix import PixMix
from auditcore.errors import ModelNotTrainable
from auditcore.training.image_operations import apply_operations, draw_operations, require_colors
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.mixing_pictures import mixing_pictures, window
from auditcore.training.network import Network

_HALF = 0.5
_DARKEST = 1e-37
"""Of what is raised to a negative power, as in the authors' code."""

_MARGIN = 9 / 8
"""Side of a mixing picture, of the longer side of the input: the authors cut 32 of 36 pixels."""


@final
class PixMixTraining(Method):
    """The cross-entropy of images mixed with pictures of structure."""

    def __init__(self, contract: PixMix, setting: MethodSetting) -> None:
        """Make the mixing pictures.

        Raises:
            ModelNotTrainable: The pictures would be smaller than the model's input, or the changes of color are not
                defined for its channels.
        """
        shape = setting.network.start.shape
        if contract.all_operations:
            require_colors(shape, contract.kind)
        longer = max(shape.height, shape.width)
        side_px = contract.picture_px or math.ceil(longer * _MARGIN)
        if side_px < longer:
            msg = f"mixing pictures of {side_px} pixels do not cover the model's input of {longer}; raise `picture_px`"
            raise ModelNotTrainable(msg, field="plan.method.picture_px")
        self._contract = contract
        self._pictures = mixing_pictures(contract.pictures, side_px=side_px, channels=shape.channels, seed=setting.seed)

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mixed batch."""
        pixels = self.mixed(batch.pixels, batch.random)
        return Step(network.losses(network.logits(pixels), batch.targets).mean())

    def mixed(
        self, pixels: Float[Tensor, "image channel height width"], random: np.random.Generator
    ) -> Float[Tensor, "image channel height width"]:
        """Mix each image with pictures or augmented copies of itself.

        Args:
            pixels: Images in pixel space [0,1].
            random: Generator of this step; draws as many numbers whatever is mixed.

        Returns:
            Mixed images in [0,1].
        """
        height, width = pixels.shape[2:]
        count, device = len(pixels), pixels.device
        rounds = random.integers(self._contract.k + 1, size=count)
        mixed = torch.where(_chosen(random, count, device), self._augmented(pixels, random), pixels)
        for done in range(self._contract.k):
            chosen = random.integers(len(self._pictures), size=count)
            pictures = window(self._pictures, chosen, random.random((count, 2)), (height, width)).to(device)
            other = torch.where(_chosen(random, count, device), self._augmented(pixels, random), pictures)
            first, second = (
                torch.from_numpy(each).float().to(device).view(-1, 1, 1, 1)
                for each in draw_weights(random, count, self._contract.beta)
            )
            sums, products = added(mixed, other, first, second), multiplied(mixed, other, first, second)
            both = torch.where(_chosen(random, count, device), sums, products)
            goes_on = torch.from_numpy(rounds > done).to(device).view(-1, 1, 1, 1)
            mixed = torch.where(goes_on, both.clamp(0, 1), mixed)
        return mixed

    def _augmented(self, pixels: Tensor, random: np.random.Generator) -> Tensor:
        operations = draw_operations(
            random, len(pixels), severity=self._contract.severity, all_operations=self._contract.all_operations
        )
        return apply_operations(pixels, operations)


def draw_weights(
    random: np.random.Generator, count: int, beta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of both pictures, for each image.

    Half of them are Beta(beta, 1) and Beta(1, beta); for the other half, 1 + Beta(1, beta) and -Beta(1, beta).

    Source: the authors' code, `get_ab`.
    """
    convex = random.random(count) < _HALF
    near_one, near_zero, more = random.beta(beta, 1, count), random.beta(1, beta, count), random.beta(1, beta, count)
    return np.where(convex, near_one, 1 + more), np.where(convex, near_zero, -near_zero)


def added(one: Tensor, other: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Weighted sum of two pictures in [-1,1], as a picture in [0,1] that may go beyond.

    Source: the authors' code, `add`.
    """
    return (first * (2 * one - 1) + second * (2 * other - 1) + 1) / 2


def multiplied(one: Tensor, other: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Product of powers of two pictures in [0,2], as a picture in [0,1] that may go beyond.

    Source: the authors' code, `multiply`.
    """
    return (2 * one) ** first * (2 * other).clamp(min=_DARKEST) ** second / 2


def _chosen(random: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """Every other image, at random."""
    return torch.from_numpy(random.random(count) < _HALF).to(device).view(-1, 1, 1, 1)
