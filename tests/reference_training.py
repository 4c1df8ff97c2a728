"""Training methods that use explanations once more: slowly, in float64, image by image, straight from the papers.

The network runs in float64; what is added to a batch, masked or deleted is decided by plain loops. Nothing here is
shared with the library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import reference

Map = Callable[[np.ndarray, int], np.ndarray]
"""(image, class) -> (C, H, W)."""


class Slow:
    """A network in float64 and in evaluation mode, one image at a time."""

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        self.module = module.double().eval()
        self._mean, self._std = (torch.tensor(one, dtype=torch.float64).view(-1, 1, 1) for one in (mean, std))

    def scores(self, image: np.ndarray) -> Tensor:
        return self.module(((torch.from_numpy(image) - self._mean) / self._std)[None])[0]

    def logits(self, image: np.ndarray) -> np.ndarray:
        return self.scores(image).detach().numpy()

    def grad_cam(self, layer: str) -> Map:
        """relu(sum_k mean(dy/dA_k) A_k), upsampled; Selvaraju et al. 2017, equations 1 and 2."""

        def explain(image: np.ndarray, target: int) -> np.ndarray:
            kept: list[Tensor] = []
            hook = self.module.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2]))
            score = self.scores(image)[target]
            hook.remove()
            (gradient,) = torch.autograd.grad(score, kept[0])
            cam = sum(gradient[0, k].mean() * kept[0][0, k] for k in range(gradient.shape[1])).relu()
            side = image.shape[1:]
            return F.interpolate(cam[None, None], side, mode="bilinear")[0].detach().numpy()

        return explain


class Added(NamedTuple):
    """A masked copy that joins the batch."""

    kind: str
    image: int
    pixels: np.ndarray


def edda_multi_class(
    slow: Slow, images: np.ndarray, labels: Sequence[int], explain: Map, taus: tuple[float, float], fill: np.ndarray
) -> list[Added]:
    """Section 3.2 of Li et al. 2021, image by image: umasks of the batch, then imasks."""
    umasks, imasks = [], []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if int(slow.logits(image).argmax()) != label:
            continue
        s = explain(image, label).sum(0)
        if s.max() == s.min():
            continue
        s = (s - s.min()) / (s.max() - s.min())
        umask, imask = np.zeros_like(image), np.zeros_like(image)
        for row in range(image.shape[1]):
            for column in range(image.shape[2]):
                umask[:, row, column] = image[:, row, column] if s[row, column] > taus[0] else fill
                imask[:, row, column] = image[:, row, column] if s[row, column] < taus[1] else fill
        if int(slow.logits(umask).argmax()) == label:
            umasks.append(Added("umask", number, umask))
        if int(slow.logits(imask).argmax()) == label:
            imasks.append(Added("imask", number, imask))
    return umasks + imasks


def edda_multi_label(
    slow: Slow, images: np.ndarray, truth: np.ndarray, explain: Map, tau: float, fill: np.ndarray
) -> list[Added]:
    """Section 3.3 of Li et al. 2021: one imask for each true class that is predicted, if it is predicted still."""
    added = []
    for number, image in enumerate(images):
        for label in range(truth.shape[1]):
            if not (truth[number, label] and slow.logits(image)[label] >= 0):
                continue
            s = explain(image, label).sum(0)
            if s.max() == s.min():
                continue
            s = (s - s.min()) / (s.max() - s.min())
            imask = np.where(s < tau, image, fill[:, None, None])
            if slow.logits(imask)[label] >= 0:
                added.append(Added("imask", number, imask))
    return added


def deletion_term(
    probability: Callable[[np.ndarray, int], Tensor],
    images: np.ndarray,
    targets: Sequence[int],
    orders: Sequence[tuple[Sequence[int], Sequence[int]]],
    steps: Sequence[int],
    grid: tuple[int, int],
    fill: np.ndarray,
) -> Tensor:
    """Mean over images and steps 1 to G of p_RaO - p_LeRF; steps that were not drawn count as the mean of the drawn.

    Args:
        probability: (image, class) -> probability in float64, perhaps with a gradient.
        images: (N,C,H,W).
        targets: Class of each image.
        orders: Of each image, its cells from the least to the most relevant, and at random.
        steps: Numbers of deleted cells, each from 1 to G - 1.
        grid: Rows and columns of cells.
        fill: Color of deleted pixels.

    Source: Won et al. 2025, equation 12.
    """
    cells = grid[0] * grid[1]
    total = torch.zeros((), dtype=torch.float64)
    for image, target, (lerf, rao) in zip(images, targets, orders, strict=True):
        for step in steps:
            for order, sign in ((rao, 1), (lerf, -1)):
                gone = reference.deleted_after(order, step, *image.shape[1:], grid)
                total = total + sign * probability(np.where(gone, fill[:, None, None], image), target)
    # of G steps, the last one deletes everything, and there both orders are alike
    return total / len(images) / len(steps) * (cells - 1) / cells
