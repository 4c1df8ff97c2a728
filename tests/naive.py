"""A whole audit the slow way: one image, one explainer, one change at a time, formulas from `reference`.

Nothing is shared or batched. The engine must give the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import reference
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import Explainer
from auditcore.explainers.table import explain
from auditcore.models.classifier import Classifier
from auditcore.streams import Streams

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

    def sweep(self, check: SweepCheck, family: Augmentation, explainer: Explainer) -> Numbers:
        """Scores of one family with an explicit interval."""
        change = getattr(reference, family.kind)
        low, high = family.interval
        values = sorted({low + (high - low) * i / (check.levels - 1) for i in range(check.levels)} | {family.identity})
        values = [v for i, v in enumerate(values) if i == 0 or v - values[i - 1] > 1e-9]
        at = min(range(len(values)), key=lambda i: abs(values[i] - family.identity))
        original = self._map(explainer, self.pixels, "original")
        curves: dict[str, list[float]] = {"probability": [], "pearson": [], "top_k": [], "chance": []}
        flips = []
        for position, value in enumerate(values):
            if position == at:
                copy, moved, inside = self.pixels, original, np.ones(self.pixels.shape[1:], dtype=bool)
                view = "original"
            else:
                copy = change(self.pixels, value)
                view = f"{check.label}/{family.kind}={_level(check, family, position)!r}"
                inside = np.ones(self.pixels.shape[1:], dtype=bool)
                moved = original
                if family.equivariant:
                    inside = change(np.ones((1, *self.pixels.shape[1:])), value)[0] >= 1 - 1e-3
                    moved = change(original, value)
                flips.append(int(np.argmax(self._logits(copy))) != self.target)
            after = original if position == at else self._map(explainer, copy, view)
            curves["probability"].append(self._probability(copy))
            if check.reduce == "none":
                before_values = moved[:, inside].ravel().tolist()
                after_values = after[:, inside].ravel().tolist()
                keep = np.broadcast_to(inside, moved.shape).ravel()
            else:
                before_values = reference.reduce_channels(moved, check.reduce)[inside].tolist()
                after_values = reference.reduce_channels(after, check.reduce)[inside].tolist()
                keep = inside.ravel()
            curves["pearson"].append(reference.pearson(before_values, after_values))
            size = (keep.size,)
            ties = self.streams.uniform(size, "sweep/ties")[0].numpy()[keep]
            ties_after = self.streams.viewing([view]).uniform(size, "sweep/ties")[0].numpy()[keep]
            overlap, _, chance = reference.top_k_overlap(
                before_values, after_values, check.top_k, ties.tolist(), ties_after.tolist()
            )
            curves["top_k"].append(overlap)
            curves["chance"].append(chance)
        areas = {
            name: reference.anchored_area(curve, values, at, check.anchor)
            for name, curve in curves.items()
            if name != "chance"
        }
        changed = [value for position, value in enumerate(values) if position != at]
        self.curves = {
            ("probability_score", family.kind): (values, curves["probability"]),
            ("pearson_score", family.kind): (values, curves["pearson"]),
            ("top_k_score", family.kind): (values, curves["top_k"]),
            ("prediction_flip_rate", family.kind): (changed, [float(flip) for flip in flips]),
        }
        return {
            ("probability_score", family.kind): areas["probability"],
            ("prediction_flip_rate", family.kind): float(np.mean(flips)),
            ("pearson_score", family.kind): areas["pearson"],
            ("top_k_score", family.kind): areas["top_k"],
            ("s_pearson", family.kind): areas["pearson"] / areas["probability"],
            ("s_top_k", family.kind): areas["top_k"] / areas["probability"],
            ("top_k_chance", family.kind): float(np.mean([c for i, c in enumerate(curves["chance"]) if i != at])),
        }

    def deletion(self, check: DeletionCheck, explainer: Explainer, fill: np.ndarray) -> Numbers:
        """Scores of one explainer."""
        assert check.grid is not None
        reduced = reference.reduce_channels(self._map(explainer, self.pixels, "original"), check.reduce)
        relevance = reference.cell_relevance(reduced, check.grid)
        cells = check.grid**2
        ties = self.streams.uniform((cells,), "deletion/ties")[0].tolist()
        most_first = reference.ranking(relevance, ties)
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
            gone = reference.deleted_after(order, steps, height, width, grid)
            curve.append(self._probability(np.where(gone, fill, self.pixels)))
        return curve

    def edda(self, check: EddaCheck, explainer: Explainer) -> Numbers:
        """Scores of one explainer at every share."""
        reduced = reference.reduce_channels(self._map(explainer, self.pixels, "original"), check.reduce)
        ties = self.streams.uniform(reduced.shape, "edda/ties")[0].double().numpy()
        scores: Numbers = {}
        for share in check.keep:
            kept = reference.keep_mask(reference.min_max_scale(reduced), share, ties)
            alone, without = self.pixels * kept, self.pixels * ~kept
            p, p_alone, p_without = self.probability, self._probability(alone), self._probability(without)
            variant = f"top_{100 * share:g}"
            self.curves = {}
            scores |= {
                ("sufficiency", variant): reference.sufficiency(p, p_alone),
                ("comprehensiveness", variant): reference.comprehensiveness(p, p_without),
                ("drop_percent", variant): reference.drop_percent(p, p_alone),
                ("increase_percent", variant): reference.increase_percent(p, p_alone),
                ("umask_agreement", variant): float(np.argmax(self._logits(alone)) == self.target),
                ("imask_flip", variant): float(np.argmax(self._logits(without)) != self.target),
            }
        return scores


def _level(check: SweepCheck, family: Augmentation, position: int) -> Any:
    """The level exactly as the engine names it, which decides the random numbers of a view."""
    from auditcore.augmentations.table import levels  # noqa: PLC0415 - only the name of a view depends on it

    assert family.interval != "auto"
    return levels(family, family.interval, check.levels)[position]
