"""Signed against magnitude: which order of cells finds what a model uses; run with `make ranking`.

Prints the tables of docs/ranking.md. First, networks that learn in seconds where the truth is planted: what decides
the class is known, so that it can be counted how much of it is in the first cells. Then the demo model on photos,
where the truth is unknown, by deletion only.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn

from auditcore.checks.deletion import compute
from auditcore.checks.image_group import ImageGroup
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.access import Limits
from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import (
    DeepLift,
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    Occlusion,
    SmoothGrad,
)
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.ranking_orders import BOTH_ORDERS
from auditcore.counts.cells import Grid
from auditcore.images.batch import decode_batch
from auditcore.metrics.cells import cell_relevance
from auditcore.metrics.reduction import ranking_relevance
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from benchmarks.subjects import load, photos

LRP: tuple[Explainer, ...] = (LrpEpsilonPlusFlat(), LrpEpsilonGammaBox(), LrpEpsilonAlpha2Beta1Flat())
ON_PLANTED: tuple[Explainer, ...] = (
    Gradient(),
    SmoothGrad(samples=10),
    GuidedBackpropagation(),
    InputXGradient(),
    IntegratedGradients(steps=16, baseline="mean"),
    DeepLift(baseline="mean"),
    *LRP,
    GradCam(),
    Occlusion(baseline="mean"),
)
ON_PHOTOS: tuple[Explainer, ...] = (
    IntegratedGradients(name="integrated_gradients.mean", baseline="mean"),
    IntegratedGradients(name="integrated_gradients.black", baseline="black"),
    InputXGradient(),
    GuidedBackpropagation(),
    SmoothGrad(),
    *LRP,
)

SIDE_PX, CELL_PX, GRID = 32, 4, 8
CELLS = Grid(GRID, GRID)
"""Planted images, and the cells that a deletion takes from them; patches of two by two cells lie on them."""

PATCH_PX = 2 * CELL_PX
IMAGES, STEPS, BATCH, TESTED = 1024, 200, 64, 16
"""Images, steps and images per step of training; and how many images of a network are ordered."""

RED, GREEN, BLUE, YELLOW = (0.9, 0.2, 0.2), (0.2, 0.8, 0.2), (0.2, 0.2, 0.9), (0.9, 0.9, 0.2)


@dataclass(frozen=True)
class Planted:
    """Images with what decides their class.

    Attributes:
        pixels: (N,3,S,S) in [0, 1].
        labels: (N,) class.
        decisive: (N,S,S) pixels that speak for the class.
        suppressed: (N,) whether something speaks against the class, where the truth is of that kind; else true.
    """

    pixels: Tensor
    labels: Tensor
    decisive: Tensor
    suppressed: Tensor


class _Canvas:
    """A textured gray image on which patches are put, no two in the same place."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        coarse = torch.rand(1, 1, 8, 8, generator=generator)
        texture = nn.functional.interpolate(coarse, SIDE_PX, mode="bilinear")[0].expand(3, -1, -1)
        self.pixels = 0.2 + 0.3 * texture + 0.3 * torch.rand(3, SIDE_PX, SIDE_PX, generator=generator)
        self.decisive = torch.zeros(SIDE_PX, SIDE_PX, dtype=torch.bool)
        self.taken = torch.zeros(GRID, GRID, dtype=torch.bool)
        self.suppressed = True

    def draw(self, count: int) -> int:
        """A whole number below a count."""
        return int(torch.randint(count, (1,), generator=self.generator))

    def put(self, patch: Tensor, *, decisive: bool, columns: tuple[int, int] = (0, GRID - 1)) -> None:
        """Put a patch of two by two cells where there is room, with its left column in a range."""
        while True:
            row, column = self.draw(GRID - 1), columns[0] + self.draw(columns[1] - columns[0])
            cells = (slice(row, row + 2), slice(column, column + 2))
            if not self.taken[cells].any():
                break
        self.taken[cells] = True
        rows, across = (slice(CELL_PX * part.start, CELL_PX * part.stop) for part in cells)
        self.pixels[:, rows, across] = patch
        self.decisive[rows, across] |= decisive

    def colored(self, color: Sequence[float]) -> Tensor:
        """A patch of one color with some noise."""
        noise = 0.1 * torch.rand(3, PATCH_PX, PATCH_PX, generator=self.generator)
        return (torch.tensor(color)[:, None, None] + noise).clamp(0, 1)

    def striped(self, *, upright: bool) -> Tensor:
        """A patch of black and white stripes of two pixels, with a random phase."""
        wave = ((torch.arange(PATCH_PX) + self.draw(4)) // 2 % 2).float().expand(PATCH_PX, -1)
        return (0.1 + 0.8 * (wave if upright else wave.T)).expand(3, -1, -1)


def color(canvas: _Canvas) -> int:
    """The color of the only patch is the class."""
    label = canvas.draw(3)
    canvas.put(canvas.colored((RED, GREEN, BLUE)[label]), decisive=True)
    return label


def texture(canvas: _Canvas) -> int:
    """The direction of the stripes of the only patch is the class."""
    label = canvas.draw(2)
    canvas.put(canvas.striped(upright=label == 1), decisive=True)
    return label


def position(canvas: _Canvas) -> int:
    """Whether the yellow patch is on the left or on the right is the class."""
    label = canvas.draw(2)
    half = GRID // 2
    canvas.put(canvas.colored(YELLOW), decisive=True, columns=(half, GRID - 1) if label else (0, half - 1))
    return label


def distractor(canvas: _Canvas) -> int:
    """One patch decides by its color; stripes next to it are in every image and have no meaning."""
    canvas.put(canvas.striped(upright=canvas.draw(2) == 1), decisive=False)
    return color(canvas)


def suppressor(canvas: _Canvas) -> int:
    """Red patches speak for class 1 and blue ones against it: class 1 has more red than blue patches."""
    red = 1 + canvas.draw(2)
    blue = red - canvas.draw(2)
    for _ in range(red):
        canvas.put(canvas.colored(RED), decisive=True)
    for _ in range(blue):
        canvas.put(canvas.colored(BLUE), decisive=False)
    canvas.suppressed = blue > 0
    return int(red > blue)


TRUTHS: Mapping[str, Callable[[_Canvas], int]] = {
    "color": color,
    "texture": texture,
    "position": position,
    "distractor": distractor,
    "suppressor": suppressor,
}


def planted(truth: str, count: int, seed: int) -> Planted:
    """Images of one kind of truth."""
    generator = torch.Generator().manual_seed(seed)
    canvases = [_Canvas(generator) for _ in range(count)]
    labels = [TRUTHS[truth](canvas) for canvas in canvases]
    return Planted(
        torch.stack([canvas.pixels for canvas in canvases]),
        torch.tensor(labels),
        torch.stack([canvas.decisive for canvas in canvases]),
        torch.tensor([canvas.suppressed for canvas in canvases]),
    )


class PlantedNet(nn.Sequential):
    """Three convolutions with BatchNorm and rectifiers; a place keeps its two by two quarters."""

    def __init__(self, classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, classes)),
        )


PREPROCESSING = Preprocessing(resize=SIDE_PX, crop=SIDE_PX, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def trained(truth: str, seed: int) -> Classifier:
    """A network that has learned one kind of truth."""
    torch.manual_seed(seed)
    images = planted(truth, IMAGES, seed)
    network = PlantedNet(int(images.labels.max()) + 1)
    inputs = (images.pixels - 0.5) / 0.25
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(STEPS):
        batch = torch.randint(len(inputs), (BATCH,))
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / STEPS)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[batch]), images.labels[batch]).backward()
        optimizer.step()
    return Classifier(network.eval(), preprocessing=PREPROCESSING)


def group_of(classifier: Classifier, pixels: Tensor, explainers: tuple[Explainer, ...], seed: int) -> ImageGroup:
    """Images explained for the class that is predicted."""
    logits = torch.cat([classifier.logits(part) for part in pixels.split(8)])
    targets = logits.argmax(dim=1)
    return ImageGroup(
        classifier=classifier,
        pixels=pixels,
        indices=tuple(range(len(pixels))),
        targets=targets,
        probabilities=classifier.probabilities(logits).gather(1, targets[:, None])[:, 0],
        streams=Streams(seed, tuple(f"{number:064x}" for number in range(len(pixels)))),
        explainers=explainers,
        tick=lambda: None,
        micro_batches=MicroBatches(64),
    )


Scores = dict[tuple[str, str, str], list[float]]
"""Explainer, order and measure -> one value per image."""


def deletion_scores(group: ImageGroup, grid: int) -> Scores:
    """Inter-model deletion and symmetric relevance gain of every explainer that runs, in both orders.

    Adaptive curves: each area is off by at most about 0.005, which is the same for both orders.
    """
    found: Scores = {}
    for one in compute(DeletionCheck(grid=grid, rank_by="both", curve="adaptive"), group, {}):
        if one.metric in {"inter_model_deletion", "srg"} and one.explainer is not None and one.ranked_by is not None:
            found[one.explainer, one.ranked_by, one.metric] = [value for value in one.values if value is not None]
    return found


def precision_scores(group: ImageGroup, decisive: Tensor) -> Scores:
    """Share of the first cells that are decisive, where as many cells are taken as are decisive."""
    cells = cell_relevance(decisive.double(), CELLS) > 0
    found: Scores = {}
    for explainer in group.able:
        for order in BOTH_ORDERS:
            relevance = cell_relevance(ranking_relevance(group.original(explainer).maps, order, "sum"), CELLS)
            found[explainer.label, order, "precision"] = [
                float(own[one.topk(int(own.sum())).indices].double().mean())
                for one, own in zip(relevance, cells, strict=True)
            ]
    return found


def measure_planted(truths: Sequence[str], seeds: Sequence[int], console: Console) -> dict[str, Scores]:
    """Scores of all explainers by kind of truth, the images of all seeds together."""
    found: dict[str, Scores] = {}
    for truth in truths:
        joined: Scores = defaultdict(list)
        for seed in seeds:
            classifier = trained(truth, seed)
            images = planted(truth, 4 * TESTED, seed + 1000)
            right = classifier.logits(images.pixels).argmax(dim=1) == images.labels
            # of the suppressor only the class that is suppressed: the other one is about what is missing
            asked = right & images.suppressed & ((images.labels == 1) | (truth != "suppressor"))
            rows = asked.nonzero().flatten()[:TESTED]
            group = group_of(classifier, images.pixels[rows], ON_PLANTED, seed)
            for key, values in (deletion_scores(group, GRID) | precision_scores(group, images.decisive[rows])).items():
                joined[key] += values
            console.print(f"{truth}, seed {seed}: accuracy {float(right.double().mean()):.3f}", style="dim")
        found[truth] = dict(joined)
    return found


def average(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    middle = average(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values))


def table(scores: Scores, measures: Sequence[str], digits: int = 2) -> str:
    """One row an explainer: each measure signed and by magnitude, the better one bold, and their difference."""
    heads = [f"{measure} {order}" for measure in measures for order in (*BOTH_ORDERS, "difference")]
    lines = [f"| explainer | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for explainer in dict.fromkeys(key[0] for key in scores):
        cells = []
        for measure in measures:
            signed, magnitude = (scores[explainer, order, measure] for order in BOTH_ORDERS)
            best = max(average(signed), average(magnitude))
            for values in (signed, magnitude):
                text = f"{average(values):+.{digits}f}"
                cells.append(f"**{text}**" if average(values) == best else text)
            gained = [after - before for before, after in zip(signed, magnitude, strict=True)]
            cells.append(f"{average(gained):+.{digits}f} ± {standard_error(gained):.{digits}f}")
        lines.append(f"| {explainer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def side_by_side(found: Mapping[str, Scores], measure: str) -> str:
    """One row an explainer, one column a kind of truth: signed / magnitude."""
    lines = [f"| explainer | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for explainer in dict.fromkeys(key[0] for scores in found.values() for key in scores):
        cells = [
            " / ".join(f"{average(scores[explainer, order, measure]):+.2f}" for order in BOTH_ORDERS)
            for scores in found.values()
        ]
        lines.append(f"| {explainer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure_photos(count: int) -> Scores:
    """Scores on the demo model: 14 x 14 cells, five random orders."""
    classifier = load("demo", "cpu")
    batch = decode_batch(photos(count), classifier.preprocessing, limits=Limits())
    return deletion_scores(group_of(classifier, batch.pixels, ON_PHOTOS, 0), 14)


def main() -> None:
    """Measure and print the tables in Markdown."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=3, help="networks for each kind of truth")
    arguments.add_argument("--photos", type=int, default=6, help="photos for the demo model, up to 8; 0 leaves it out")
    arguments.add_argument("--truths", nargs="*", default=list(TRUTHS), choices=list(TRUTHS), help="kinds of truth")
    given = arguments.parse_args()
    console = Console(soft_wrap=True, markup=False, highlight=False)
    found = measure_planted(given.truths, range(given.seeds), console)
    for truth, scores in found.items():
        console.print(f"\n### {truth}\n\n{table(scores, ('inter_model_deletion', 'srg', 'precision'))}")
    for measure in ("inter_model_deletion", "srg", "precision") if found else ():
        console.print(f"\n### {measure}: signed / magnitude\n\n{side_by_side(found, measure)}")
    if given.photos:
        console.print(f"\n### photos\n\n{table(measure_photos(given.photos), ('inter_model_deletion', 'srg'), 3)}")


if __name__ == "__main__":
    main()
