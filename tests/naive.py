"""A whole audit the slow way: one image, one explainer, one change at a time, formulas from `reference`.

Nothing is shared or batched. The engine must give the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import reference
from auditcore.contracts.augmentations import Augmentation, Composition, GaussianNoise, Gmic
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SsimSweepCheck, SweepCheck
from auditcore.contracts.explainers import Explainer, Random
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

Numbers = dict[tuple[str, str | None], float]
Curves = dict[tuple[str, str | None], tuple[list[float], list[float]]]


class NaiveAudit:
    """One image under audit.

    Attributes:
        curves: Positions and values behind the scores computed last.
    """

    def __init__(self, classifier: Classifier, pixels: np.ndarray, seed: int, digest: str) -> None:
        self.classifier = classifier
        self.pixels = pixels.astype(np.float64)
        self.streams = Streams(seed, (digest,))
        logits = self._logits(self.pixels)
        self.target = int(np.argmax(logits))
        self.probability = self._probability(self.pixels)
        self.curves: Curves = {}

    def _logits(self, pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels.astype(np.float32))[None]
        return self.classifier.logits(batch)[0].double().numpy()

    def _probability(self, pixels: np.ndarray) -> float:
        logits = self._logits(pixels)
        exponentials = [float(np.exp(logit - logits.max())) for logit in logits]
        return exponentials[self.target] / sum(exponentials)

    def _map(self, explainer: Explainer, pixels: np.ndarray, view: str) -> np.ndarray:
        batch = torch.from_numpy(pixels.astype(np.float32))[None]
        target = torch.tensor([self.target])
        maps = explain(self.classifier, explainer, batch, target, self.streams.viewing([view])).maps
        return maps[0].double().numpy()

    def _map_of_copy(self, noise: str, explainer: Explainer, pixels: np.ndarray, view: str) -> np.ndarray:
        """With common noise a copy draws the numbers of its original; the random control never does."""
        common = noise == "common" and not isinstance(explainer, Random)
        return self._map(explainer, pixels, "original" if common else view)

    def _changed(self, augmentation: Augmentation, image: np.ndarray, value: float) -> np.ndarray:
        """One copy of an image."""
        match augmentation:
            case Composition():
                for part in (augmentation.first, augmentation.second):
                    image = self._changed(part, image, _part_value(part, value))
                return image
            case GaussianNoise():
                field = self.streams.normal(image.shape, "augmentation/gaussian_noise")[0].double().numpy()
                return reference.gaussian_noise(image, value, field)
            case Gmic(filter="sharpen"):
                return reference.gmic_sharpen(image, value)
            case _:
                return getattr(reference, augmentation.kind)(image, value)

    def _moved(self, augmentation: Augmentation, attribution: np.ndarray, value: float) -> np.ndarray:
        """A map as the change moves pixels."""
        if isinstance(augmentation, Composition):
            for part in (augmentation.first, augmentation.second):
                attribution = self._moved(part, attribution, _part_value(part, value))
            return attribution
        return getattr(reference, augmentation.kind)(attribution, value) if augmentation.equivariant else attribution

    def ssim_sweep(self, check: SsimSweepCheck, explainer: Explainer, data_range: float) -> Numbers:
        """Similarities and accepted shares of one explainer: over all, by kind, augmentation and value."""
        original = self._map(explainer, self.pixels, "original")
        similar: dict[str, list[float]] = {"all": []}
        accepted: dict[str, list[float]] = {"all": []}
        kinds = [change.augmentation.kind for change in check.changes]
        for change in check.changes:
            augmentation = change.augmentation
            for value in change.values:
                copy = self._changed(augmentation, self.pixels, value)
                moved = abs(self._probability(copy) - self.probability)
                variants = ["all", augmentation.label]
                variants += [augmentation.kind] if kinds.count(augmentation.kind) > 1 else []
                variants += [f"{augmentation.label}={value:g}"] if len(change.values) > 1 else []
                for variant in variants:
                    accepted.setdefault(variant, []).append(float(moved < check.tolerance))
                    similar.setdefault(variant, [])
                if moved >= check.tolerance:
                    continue
                before = self._moved(augmentation, original, value)
                after = self._map_of_copy(check.noise, explainer, copy, f"{check.label}/{augmentation.label}={value!r}")
                inside = self._moved(augmentation, np.ones((1, *self.pixels.shape[1:])), value)[0] >= 1 - 1e-3
                if check.border == "include":
                    inside = np.ones_like(inside)
                if check.reduce != "none":
                    before = reference.reduce_channels(before, check.reduce)[None]
                    after = reference.reduce_channels(after, check.reduce)[None]
                found = reference.structural_similarity(before, after, data_range, check.window, inside)
                for variant in variants:
                    similar[variant].append(found)
        scores: Numbers = {("ssim", name): float(np.mean(v)) if v else reference.NAN for name, v in similar.items()}
        scores |= {("accepted_fraction", name): float(np.mean(values)) for name, values in accepted.items()}
        every = all(accepted["all"])
        scores["accepted_fraction", "all_valid"] = float(every)
        scores["ssim", "all_valid"] = scores["ssim", "all"] if every else reference.NAN
        if explainer.stochastic and not isinstance(explainer, Random):
            again = self._map(explainer, self.pixels, "repeatability")
            before, after = (
                m if check.reduce == "none" else reference.reduce_channels(m, check.reduce)[None]
                for m in (original, again)
            )
            inside = np.ones(self.pixels.shape[1:], dtype=bool)
            similarity = reference.structural_similarity(before, after, data_range, check.window, inside)
            scores["repeatability_ssim", None] = similarity
        return scores | {("ssim_data_range", None): data_range}

    def sweep(self, check: SweepCheck, augmentation: Augmentation, explainer: Explainer) -> Numbers:
        """Scores of one augmentation with an explicit interval."""
        low, high = augmentation.interval
        steps = 2 if augmentation.only_ends else check.levels
        values = sorted({low + (high - low) * i / (steps - 1) for i in range(steps)} | {augmentation.identity})
        values = [v for i, v in enumerate(values) if i == 0 or v - values[i - 1] > 1e-9]
        at = min(range(len(values)), key=lambda i: abs(values[i] - augmentation.identity))
        original = self._map(explainer, self.pixels, "original")
        curves: dict[str, list[float]] = {"probability": [], "pearson": [], "top_k": [], "chance": []}
        flips = []
        for position, value in enumerate(values):
            if position == at:
                copy, moved, inside = self.pixels, original, np.ones(self.pixels.shape[1:], dtype=bool)
                view = "original"
            else:
                copy = self._changed(augmentation, self.pixels, value)
                view = f"{check.label}/{augmentation.label}={_level(check, augmentation, position)!r}"
                inside = self._moved(augmentation, np.ones((1, *self.pixels.shape[1:])), value)[0] >= 1 - 1e-3
                moved = self._moved(augmentation, original, value)
                flips.append(int(np.argmax(self._logits(copy))) != self.target)
            after = original if position == at else self._map_of_copy(check.noise, explainer, copy, view)
            curves["probability"].append(self._probability(copy))
            if check.reduce == "none":
                before_values = moved[:, inside].ravel().tolist()
                after_values = after[:, inside].ravel().tolist()
            else:
                before_values = reference.reduce_channels(moved, check.reduce)[inside].tolist()
                after_values = reference.reduce_channels(after, check.reduce)[inside].tolist()
            curves["pearson"].append(reference.pearson(before_values, after_values))
            overlap, _, chance = reference.top_k_overlap(before_values, after_values, check.top_k)
            curves["top_k"].append(overlap)
            curves["chance"].append(chance)
        areas = {
            name: reference.anchored_area(curve, values, at, check.anchor)
            for name, curve in curves.items()
            if name != "chance"
        }
        repeated = self._sweep_repeatability(check, explainer, original)
        changed = [value for position, value in enumerate(values) if position != at]
        self.curves = {
            ("probability_score", augmentation.label): (values, curves["probability"]),
            ("pearson_score", augmentation.label): (values, curves["pearson"]),
            ("top_k_score", augmentation.label): (values, curves["top_k"]),
            ("prediction_flip_rate", augmentation.label): (changed, [float(flip) for flip in flips]),
        }
        return {
            ("probability_score", augmentation.label): areas["probability"],
            ("prediction_flip_rate", augmentation.label): float(np.mean(flips)),
            ("pearson_score", augmentation.label): areas["pearson"],
            ("top_k_score", augmentation.label): areas["top_k"],
            ("s_pearson", augmentation.label): areas["pearson"] / areas["probability"],
            ("s_top_k", augmentation.label): areas["top_k"] / areas["probability"],
            ("top_k_chance", None): float(np.mean([c for i, c in enumerate(curves["chance"]) if i != at])),
            **repeated,
        }

    def _sweep_repeatability(self, check: SweepCheck, explainer: Explainer, original: np.ndarray) -> Numbers:
        """Similarity of a map with that of another draw, nothing else changed; nothing of deterministic explainers."""
        if not explainer.stochastic or isinstance(explainer, Random):
            return {}
        again = self._map(explainer, self.pixels, "repeatability")
        before, after = (
            (m if check.reduce == "none" else reference.reduce_channels(m, check.reduce)).ravel().tolist()
            for m in (original, again)
        )
        overlap, _, _ = reference.top_k_overlap(before, after, check.top_k)
        return {
            ("repeatability_pearson", None): reference.pearson(before, after),
            ("repeatability_top_k", None): overlap,
        }

    def deletion(self, check: DeletionCheck, explainer: Explainer, fill: np.ndarray) -> Numbers:
        """Scores of one explainer."""
        assert check.grid is not None
        order = reference.order_of(check.rank_by, explainer.kind)
        reduced = reference.ranking_relevance(self._map(explainer, self.pixels, "original"), order, check.reduce)
        relevance = reference.cell_relevance(reduced, (check.grid, check.grid))
        cells = check.grid**2
        ties = self.streams.uniform((cells,), "deletion/ties")[0].tolist()
        most_first = reference.ranking(reference.resolved(relevance), ties)
        lerf = self._deletion_curve(most_first[::-1], check.grid, fill)
        morf = self._deletion_curve(most_first, check.grid, fill)
        randoms = []
        for repeat in range(check.repeats):
            lottery = self.streams.uniform((cells,), "deletion/random_order", repeat)[0].tolist()
            order = sorted(range(cells), key=lottery.__getitem__)
            randoms.append(self._deletion_curve(order, check.grid, fill))
        shares = [step / cells for step in range(cells + 1)]
        self.curves = {
            ("lerf_auc", None): (shares, lerf),
            ("morf_auc", None): (shares, morf),
            ("rao_auc", None): (shares, np.mean(randoms, axis=0).tolist()),
        }
        return {
            ("lerf_auc", None): reference.deletion_auc(lerf),
            ("morf_auc", None): reference.deletion_auc(morf),
            ("rao_auc", None): reference.rao_auc(randoms),
            ("inter_model_deletion", None): reference.inter_model_deletion(lerf, randoms),
            ("srg", None): reference.symmetric_relevance_gain(lerf, morf),
        }

    def _deletion_curve(self, order: list[int], grid: int, fill: np.ndarray) -> list[float]:
        height, width = self.pixels.shape[1:]
        curve = []
        for steps in range(grid**2 + 1):
            gone = reference.deleted_after(order, steps, height, width, (grid, grid))
            curve.append(self._probability(np.where(gone, fill, self.pixels)))
        return curve

    def edda(self, check: EddaCheck, explainer: Explainer) -> Numbers:
        """Scores of one explainer at every share and every threshold."""
        order = reference.order_of(check.rank_by, explainer.kind)
        reduced = reference.ranking_relevance(self._map(explainer, self.pixels, "original"), order, check.reduce)
        ties = self.streams.uniform(reduced.shape, "edda/ties")[0].double().numpy()
        scaled = np.array(reference.resolved(reduced.ravel().tolist())).reshape(reduced.shape)
        masks = {}
        for share in check.keep:
            kept = reference.keep_mask(scaled, share, ties)
            masks[f"top_{100 * share:g}"] = (kept, ~kept)
        masks |= {f"tau_{tau:g}": reference.threshold_masks(reduced, tau) for tau in check.thresholds}
        color = np.zeros(3)
        if check.color == "mean":
            color = self.classifier.mean.flatten().double().numpy()
        scores: Numbers = {}
        for variant, (umask, imask) in masks.items():
            alone, without = (np.where(mask, self.pixels, color[:, None, None]) for mask in (umask, imask))
            p, p_alone, p_without = self.probability, self._probability(alone), self._probability(without)
            self.curves = {}
            scores |= {
                ("sufficiency", variant): reference.sufficiency(p, p_alone),
                ("comprehensiveness", variant): reference.comprehensiveness(p, p_without),
                ("drop_percent", variant): reference.drop_percent(p, p_alone, check.min_probability),
                ("increase_percent", variant): reference.increase_percent(p, p_alone, check.min_probability),
                ("umask_agreement", variant): float(np.argmax(self._logits(alone)) == self.target),
                ("imask_flip", variant): float(np.argmax(self._logits(without)) != self.target),
            }
            if variant.startswith("tau"):
                scores["kept_share", variant] = float(np.mean(umask))
        return scores


def _part_value(part: Augmentation, share: float) -> float:
    """The value of one augmentation of a composition: a share of the way to its upper or lower end."""
    low, high = part.extent
    return part.identity + (share * (high - part.identity) if share >= 0 else -share * (low - part.identity))


def _level(check: SweepCheck, augmentation: Augmentation, position: int) -> Any:
    """The level exactly as the engine names it, which decides the random numbers of a view."""

    assert augmentation.interval != "auto"
    return check.values(augmentation, augmentation.interval)[position]
