"""The same audit as the papers' own code runs it: one image, one explainer, one change at a time, nothing shared.

captum explains, zennit propagates relevance, NumPy, SciPy and scikit-image change images and compare maps, and a plain
loop asks the model for one prediction at a time. Nothing is computed twice within one score; nothing is handed from one
score to the next. The model runs in the memory format in which it explains single images fastest.

Every step of a score costs alike, so a score that takes long is measured on as many steps as the time allows and
scaled; what happens once (the map of the original, the order of its pixels) is always measured in full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from captum import attr
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hsv2rgb, rgb2hsv
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur
from zennit.attribution import Gradient as ZennitGradient
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonGammaBox, EpsilonPlusFlat
from zennit.core import Composite

from auditcore.contracts.checks import (
    Check,
    DeletionCheck,
    EddaCheck,
    Game,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    SensitivityCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    Random,
    Saliency,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.models.classifier import Classifier
from benchmarks.timing import drain

Map = NDArray[np.float32]
"""(H,W), channels summed."""


class Paper:
    """A model and one image, as a paper's code holds them.

    Attributes:
        classifier: Gives size, mean and standard deviation, and its canonical form for zennit.
        module: Normalized (1,3,H,W) to logits.
        memory_format: Of all inputs.
        image: (3,H,W) in [0,1].
        target: The class explained.
    """

    def __init__(
        self, classifier: Classifier, module: nn.Module, memory_format: torch.memory_format, image: Tensor
    ) -> None:
        self.classifier = classifier
        self.module = module
        self.memory_format = memory_format
        self.image = image.cpu().numpy()
        self.chance = np.random.default_rng(0)
        self.target = int(self.logits(self.image).argmax())

    def tensor(self, image: NDArray[np.float32]) -> Tensor:
        """(1,3,H,W), normalized, on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None].to(self.classifier.device)
        normalized = (pixels - self.classifier.mean) / self.classifier.std
        return normalized.contiguous(memory_format=self.memory_format)

    def logits(self, image: NDArray[np.float32]) -> Tensor:
        """Class scores (classes,) of one image."""
        with torch.no_grad():
            output: Tensor = self.module(self.tensor(image))[0]
        return output

    def probability(self, image: NDArray[np.float32]) -> float:
        """Softmax of the target."""
        return self.logits(image).softmax(0)[self.target].item()

    def attribution(self, explainer: Explainer, x: Tensor) -> Map:
        """Map of one normalized image (1,3,H,W), by captum or zennit."""
        if isinstance(explainer, Random):
            return self.chance.standard_normal(tuple(x.shape[2:])).astype(np.float32)
        x = x.detach().requires_grad_()
        maps: Tensor
        match explainer:
            case Gradient():
                maps = attr.Saliency(self.module).attribute(x, target=self.target, abs=False)
            case Saliency():
                maps = attr.Saliency(self.module).attribute(x, target=self.target)
            case InputXGradient():
                maps = attr.InputXGradient(self.module).attribute(x, target=self.target)
            case IntegratedGradients():
                black = self.classifier.low.expand_as(x)
                method = attr.IntegratedGradients(self.module)
                maps = method.attribute(x, baselines=black, target=self.target, n_steps=explainer.steps)
            case GuidedBackpropagation():
                maps = attr.GuidedBackprop(self.module).attribute(x, target=self.target)
            case GradCam():
                layer = self.module.get_submodule(self.classifier.last_feature_layer or "")
                small = attr.LayerGradCam(self.module, layer).attribute(x, target=self.target, relu_attributions=True)
                maps = attr.LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")
            case _:
                maps = self._relevance(explainer, x)
        summed: Map = maps.detach().sum(1)[0].cpu().numpy()
        return summed

    def _relevance(self, explainer: Explainer, x: Tensor) -> Tensor:
        composite = self._composite(explainer)
        # our canonical form stands in for the canonizer that a paper writes for its model
        with ZennitGradient(model=self.classifier.canonical, composite=composite) as attributor:
            target = torch.eye(self.classifier.classes, device=x.device)[[self.target]]
            _, relevance = attributor(x, lambda logits: logits * target)
        found: Tensor = relevance
        return found

    def _composite(self, explainer: Explainer) -> Composite:
        match explainer:
            case LrpEpsilonPlusFlat():
                return EpsilonPlusFlat(epsilon=explainer.epsilon)
            case LrpEpsilonAlpha2Beta1Flat():
                return EpsilonAlpha2Beta1Flat(epsilon=explainer.epsilon)
            case LrpEpsilonGammaBox():
                low, high = self.classifier.low, self.classifier.high
                return EpsilonGammaBox(low=low, high=high, epsilon=explainer.epsilon, gamma=explainer.gamma)
            case _:
                msg = f"no paper's way to compute {explainer.kind} is written down here"
                raise NotImplementedError(msg)


Steps = Iterator[Callable[[], object]]
"""What happens once is done before the first step is handed out; then every step costs alike."""


@dataclass
class Score:
    """One check of one explainer on one image, measured step by step.

    Attributes:
        make: Starts the score again.
        count: Steps of the whole score.
        device: Drained before each look at the clock.
        once_s: Seconds before the first step.
        steps_s: Seconds of the steps made.
        done: Steps made.
    """

    make: Callable[[], Steps]
    count: int
    device: torch.device
    once_s: float = 0.0
    steps_s: float = 0.0
    done: int = 0
    _steps: Steps | None = field(default=None, repr=False)

    def advance(self, limit_s: float) -> None:
        """Go on for some seconds, or to the end; at least one step is made unless all are."""
        until = time.perf_counter() + limit_s
        while self.done < self.count:
            drain(self.device)
            started = time.perf_counter()
            if self._steps is None:
                self._steps = self.make()
                step = next(self._steps)
                drain(self.device)
                self.once_s = time.perf_counter() - started
                started = time.perf_counter()
            else:
                step = next(self._steps)
            step()
            drain(self.device)
            self.steps_s += time.perf_counter() - started
            self.done += 1
            if time.perf_counter() >= until:
                return

    @property
    def seconds(self) -> float:
        """Of the whole score, scaled by steps if not all were made."""
        return scaled_seconds(self.once_s, self.steps_s, self.done, self.count)


def scaled_seconds(once_s: float, steps_s: float, done: int, count: int) -> float:
    """What happens once, and all steps at the mean cost of those made.

    Raises:
        ValueError: No step was made, or more than there are.
    """
    if not 0 < done <= count:
        msg = f"between 1 and {count} steps must be made, got {done}"
        raise ValueError(msg)
    return once_s + steps_s / done * count


def scores_of(plan: AuditPlan, paper: Paper) -> list[Score]:
    """Every check of every explainer of a plan, with the random control where the engine runs it too."""
    found = []
    for check in plan.checks:
        found += [_score(check, explainer, paper) for explainer in plan.explainers]
        if not isinstance(check, DeletionCheck):
            found.append(_score(check, Random(), paper))
    return found


def _score(check: Check, explainer: Explainer, paper: Paper) -> Score:
    size = paper.classifier.shape.pixels
    match check:
        case SweepCheck():
            count = sum(len(_levels(check, augmentation)) for augmentation in check.augmentations)
            return Score(lambda: _sweep(check, explainer, paper), count, paper.classifier.device)
        case DeletionCheck():
            cells = (check.grid or 14) ** 2
            count = (2 + check.repeats) * (cells + 1)
            return Score(lambda: _deletion(check, explainer, paper), count, paper.classifier.device)
        case EddaCheck():
            return Score(lambda: _edda(check, explainer, paper), 2 * len(check.variants), paper.classifier.device)
        case PixelFlippingCheck():
            count = int(np.ceil(check.share * size / (check.pixels_per_step or 512)))
            return Score(lambda: _pixel_flipping(check, count, explainer, paper), count, paper.classifier.device)
        case InsertionDeletionCheck():
            count = len(check.games) * (int(np.ceil(size / (check.pixels_per_step or 224))) + 1)
            return Score(lambda: _games(check, explainer, paper), count, paper.classifier.device)
        case SensitivityCheck():
            return Score(lambda: _sensitivity(check, explainer, paper), check.draws, paper.classifier.device)
        case _:
            msg = f"no paper's way to compute {check.kind} is written down here"
            raise NotImplementedError(msg)


def _levels(check: SweepCheck, augmentation: object) -> list[float]:
    """Levels of an augmentation but the identity, where the map is that of the original."""
    interval = augmentation.interval  # type: ignore[attr-defined] - augmentations of a plan have one
    return [value for value in check.values(augmentation, interval) if value != augmentation.identity]  # type: ignore[arg-type,attr-defined]


def _sweep(check: SweepCheck, explainer: Explainer, paper: Paper) -> Steps:
    """Tetkova & Hansen 2023: probability, correlation and top-k overlap at every level."""
    original = paper.attribution(explainer, paper.tensor(paper.image))
    everywhere = np.ones(original.shape, np.float32)
    settings = [(augmentation, value) for augmentation in check.augmentations for value in _levels(check, augmentation)]
    # augmentations differ in their cost besides the model: a part of the levels must contain its share of each
    paper.chance.shuffle(settings)
    for augmentation, value in settings:

        def level(augmentation: object = augmentation, value: float = value) -> tuple[float, float, float]:
            moves = augmentation.kind == "rotate"  # type: ignore[attr-defined]
            if moves:
                copy = np.stack([_rotated(channel, value) for channel in paper.image])
                expected, inside = _rotated(original, value), _rotated(everywhere, value) > 1 - 1e-3
            else:
                copy = _brighter(paper.image, value)
                expected, inside = original, everywhere > 0
            probability = paper.probability(copy)
            before, after = expected[inside], paper.attribution(explainer, paper.tensor(copy))[inside]
            correlation = float(np.corrcoef(before, after)[0, 1])
            k = min(check.top_k, len(before) - 1)
            top = [set(np.argpartition(values, -k)[-k:].tolist()) for values in (before, after)]
            return probability, correlation, len(top[0] & top[1]) / k

        yield level


def _rotated(values: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    turned: NDArray[np.float32] = ndimage.rotate(values, degrees, reshape=False, order=1)
    return turned


def _brighter(image: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    hsv = rgb2hsv(image, channel_axis=0)
    hsv[2] = np.clip(hsv[2] + value, 0, 1)
    rgb: NDArray[np.float32] = hsv2rgb(hsv, channel_axis=0).astype(np.float32)
    return rgb


def _deletion(check: DeletionCheck, explainer: Explainer, paper: Paper) -> Steps:
    """Won et al. 2025: cells vanish in three kinds of order."""
    attribution = paper.attribution(explainer, paper.tensor(paper.image))
    grid = check.grid or 14
    side = len(attribution)
    bounds = [side * number // grid for number in range(grid + 1)]
    relevance = np.array(
        [
            attribution[bounds[row] : bounds[row + 1], bounds[column] : bounds[column + 1]].mean()
            for row in range(grid)
            for column in range(grid)
        ]
    )
    most_first = np.argsort(-relevance)
    orders = [most_first[::-1], most_first, *(paper.chance.permutation(grid**2) for _ in range(check.repeats))]
    fill = paper.classifier.mean.cpu().numpy()[0]
    for order in orders:
        copy = paper.image.copy()
        yield lambda copy=copy: paper.probability(copy)
        for cell in order:
            row, column = divmod(int(cell), grid)

            def delete(copy: NDArray[np.float32] = copy, row: int = row, column: int = column) -> float:
                copy[:, bounds[row] : bounds[row + 1], bounds[column] : bounds[column + 1]] = fill
                return paper.probability(copy)

            yield delete


def _edda(check: EddaCheck, explainer: Explainer, paper: Paper) -> Steps:
    """Li et al. 2021: only the most relevant pixels, and all but them."""
    attribution = paper.attribution(explainer, paper.tensor(paper.image))
    paper.probability(paper.image)
    order = np.argsort(-attribution, axis=None)
    masks = []
    for share in check.keep:
        kept = np.zeros(order.size, bool)
        kept[order[: round(share * order.size)]] = True
        masks += [kept.reshape(attribution.shape), ~kept.reshape(attribution.shape)]
    scaled = (attribution - attribution.min()) / np.ptp(attribution)
    for threshold in check.thresholds:
        masks += [scaled > threshold, scaled < threshold]
    color = paper.classifier.mean.cpu().numpy()[0] if check.color == "mean" else np.float32(0)
    for mask in masks:
        yield lambda mask=mask: paper.logits(np.where(mask, paper.image, color)).softmax(0).max().item()


def _pixel_flipping(check: PixelFlippingCheck, steps: int, explainer: Explainer, paper: Paper) -> Steps:
    """Bach et al. 2015: the most relevant pixels become black, some at a time."""
    attribution = paper.attribution(explainer, paper.tensor(paper.image))
    paper.probability(paper.image)
    order = np.argsort(-attribution, axis=None)
    at_once = check.pixels_per_step or 512
    copy = paper.image.copy().reshape(3, -1)
    for step in range(steps):

        def flip(step: int = step) -> float:
            copy[:, order[step * at_once : (step + 1) * at_once]] = 0
            return paper.probability(copy.reshape(paper.image.shape))

        yield flip


def _games(check: InsertionDeletionCheck, explainer: Explainer, paper: Paper) -> Steps:
    """Petsiuk et al. 2018, `CausalMetric.single_run`: every game from its start to its end."""
    attribution = paper.attribution(explainer, paper.tensor(paper.image))
    order = np.argsort(-attribution, axis=None)
    at_once = check.pixels_per_step or 224
    for game in check.games:
        copy, end = _ends(game, paper)
        yield lambda copy=copy: paper.probability(copy.reshape(paper.image.shape))
        for start in range(0, order.size, at_once):

            def step(copy: Map = copy, end: Map = end, start: int = start) -> float:
                pixels = order[start : start + at_once]
                copy[:, pixels] = end[:, pixels]
                return paper.probability(copy.reshape(paper.image.shape))

            yield step


def _ends(game: Game, paper: Paper) -> tuple[Map, Map]:
    """First and last picture of a game, (3, pixels)."""
    original = paper.image.reshape(3, -1)
    if game.endswith("blur"):
        picture = gaussian_blur(torch.from_numpy(paper.image), [11, 11], [5.0, 5.0]).numpy().reshape(3, -1)
    elif game.endswith("black"):
        picture = np.zeros_like(original)
    else:
        picture = np.broadcast_to(paper.classifier.mean.cpu().numpy().reshape(3, 1), original.shape)
    start, end = (original, picture) if game.startswith("deletion") else (picture, original)
    return start.copy(), end


def _sensitivity(check: SensitivityCheck, explainer: Explainer, paper: Paper) -> Steps:
    """Yeh et al. 2019: relative distance of the map under uniform noise."""
    x = paper.tensor(paper.image)
    original = paper.attribution(explainer, x)
    length = np.linalg.norm(original)
    for _ in range(check.draws):

        def draw() -> float:
            noisy = x + check.radius * (2 * torch.rand_like(x) - 1)
            return float(np.linalg.norm(paper.attribution(explainer, noisy) - original) / length)

        yield draw
