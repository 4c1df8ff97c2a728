"""Early stopping: when the conditions of a policy are decided, from the values of the first images in a random order.

Everything here is a function of seed, images and values. It does not depend on which worker computed a shard, on the
order of shards, or on results beyond the end of the audit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np

from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, Question, Row, questions_of
from auditcore.contracts.report import ConditionDecision, Stopping
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.significance import rounded
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.metrics.confidence_sequences import OUT_OF_RANGE, first_refuted, lower_bound, upper_bound


def image_order(seed: int, images: int) -> tuple[int, ...]:
    """Return the order in which an audit with a stop rule uses its images.

    The order depends only on the seed and the number of images, because nothing else is known before all images are
    fetched. Audits of the same batch with the same seed use the same images.

    Returns:
        Indices of the batch in uniformly random order.
    """
    name = f"{seed}\0{images}\0order of images".encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "little")
    return tuple(np.random.Generator(np.random.Philox(key=key)).permutation(images).tolist())


@final
@dataclass(frozen=True)
class Observations:
    """The part of a shard result that the conditions of a policy need; small enough to keep.

    Attributes:
        model: Name of the model in an audit of several.
        images: Indices of its images.
        used: Index -> digest, for images that the model used.
        values: Result -> index -> value; an image without a value is missing.
    """

    model: str | None
    images: tuple[int, ...]
    used: Mapping[int, str]
    values: Mapping[Row, Mapping[int, float]]


def observe(rows: Collection[Row], result: ShardResult) -> Observations:
    """Extract the values of a compute shard that the conditions need.

    Args:
        rows: The results that the conditions are judged by.
        result: The result of the shard.
    """
    used = {record.index: record.digest or "" for record in result.images if record.targets}
    values: dict[Row, dict[int, float]] = {}
    for one in result.measurements:
        row = (one.check, one.explainer, one.metric, one.variant)
        if row in rows:
            pairs = zip(used, one.values, strict=True)
            values[row] = {index: value for index, value in pairs if value is not None}
    return Observations(result.model_name, tuple(record.index for record in result.images), used, values)


@final
@dataclass(frozen=True)
class _Decided:
    """The decision on one condition of one model after some images.

    Attributes:
        met: Whether the mean meets the condition, both over the whole batch and over the population that it was drawn
            from; None while that is undecided.
        at: Number of images after which it was decided.
    """

    met: bool | None
    at: int | None


class _Sequence:
    """One condition of one model, with its values in the random order."""

    def __init__(self, condition: Condition, metric: Metric, values: np.ndarray, population: int, alpha: float) -> None:
        self._values = values
        self._population = population
        self._alpha = alpha
        self._at_least = condition.at_least is not None
        self._threshold = condition.threshold
        present = values[~np.isnan(values)]
        # a bound that a value violates must not be used
        low, high = metric.lowest, metric.highest
        holds_low = low is not None and present.min(initial=low) >= low - OUT_OF_RANGE * max(1.0, abs(low))
        holds_high = high is not None and present.max(initial=high) <= high + OUT_OF_RANGE * max(1.0, abs(high))
        self.lowest = low if holds_low else None
        self.highest = high if holds_high else None

    def decide(self) -> _Decided:
        """Decide on which side of the threshold the mean is, for the batch and for the population."""
        defined = np.flatnonzero(~np.isnan(self._values))
        if not defined.size:
            return _Decided(met=None, at=None)  # without a value there is no mean
        sides: list[tuple[int, bool]] = []
        if (at := self._above()) is not None:
            sides.append((at, self._at_least))
        if (at := self._below()) is not None:
            sides.append((at, not self._at_least))
        if self._cannot_miss():
            sides.append((1, True))
        if not sides:
            return _Decided(met=None, at=None)
        at, met = min(sides)
        return _Decided(met=met, at=max(at, int(defined[0]) + 1))

    def _above(self) -> int | None:
        return None if self.lowest is None else self._refuted(self._values, self._threshold, self.lowest)

    def _below(self) -> int | None:
        return None if self.highest is None else self._refuted(-self._values, -self._threshold, -self.highest)

    def _refuted(self, values: np.ndarray, claim: float, lowest: float) -> int | None:
        """Return after how many images "the mean is at most `claim`" is refuted, for the batch and the population."""
        found = [
            first_refuted(values, population=population, claim=claim, lowest=lowest, alpha=self._alpha)
            for population in (self._population, None)
        ]
        known = [at for at in found if at is not None]
        return max(known) if len(known) == len(found) else None

    def _cannot_miss(self) -> bool:
        """Return whether every mean meets the threshold, because it is at the metric's bound."""
        bound = self.lowest if self._at_least else self.highest
        return bound is not None and (self._threshold <= bound if self._at_least else self._threshold >= bound)

    def interval(self) -> tuple[float | None, float | None]:
        """Return the ends of a confidence sequence that holds for both means; None at an end without a bound."""
        low = high = None
        populations = (self._population, None)
        if self.lowest is not None:
            low = min(
                lower_bound(self._values, population=population, lowest=self.lowest, alpha=self._alpha)
                for population in populations
            )
        if self.highest is not None:
            high = max(
                upper_bound(self._values, population=population, highest=self.highest, alpha=self._alpha)
                for population in populations
            )
        return (None if low is None else rounded(low), None if high is None else rounded(high))


@final
class Conclusion:
    """The conclusion of a stop rule from finished shards.

    Args:
        request: The audit; it has a stop rule.
        plan: Its full plan.
        images: Number of images of the batch.
        observations: Observations of compute shards, in any order.
    """

    def __init__(
        self, request: AuditRequest, plan: AuditPlan, *, images: int, observations: Iterable[Observations]
    ) -> None:
        assert request.stop is not None  # noqa: S101 - callers check that there is a rule
        self._rule: Conclusive = request.stop
        self._seed = plan.seed
        self._images = images
        self._metrics = {check.label: check.metrics for check in plan.checks}
        self._models = tuple(name for name, _ in request.references)
        self._order = image_order(plan.seed, images)
        names = [name for name in self._models if name is not None]
        self._questions = questions_of(request.conditions, plan, names)
        self._alpha = self._rule.alpha / len(self._questions)
        self._known: dict[str | None, set[int]] = {model: set() for model in self._models}
        self._digests: dict[int, str] = {}
        self._values: dict[tuple[str | None, Row], dict[int, float]] = {
            (question.model, question.row): {} for question in self._questions
        }
        for one in observations:
            self._digests.update(one.used)
            self._known[one.model].update(one.images)
            for row, values in one.values.items():
                if (one.model, row) in self._values:
                    self._values[one.model, row].update(values)

    @cached_property
    def stop_at(self) -> int | None:
        """Number of images after which the audit ends early: the first look at which every condition is decided.

        A decision counts only on enough evidence: at least `min_images` of the images seen have a value, at least half
        of the used ones have a value, and no two images are copies (the sequences count images, while results count
        distinct ones). Only images up to the first one that is missing for any model are considered. None while there
        is no such look.
        """
        complete = self._complete()
        latest = 0
        for question in self._questions:
            at = self._sequence(question, complete).decide().at
            if at is None:
                return None
            latest = max(latest, at)
        for look in looks(self._images, self._rule.first_look):
            if look > complete or look == self._images:
                return None
            if (
                look >= latest
                and not self._copies(look)
                and all(self._has_evidence(one, look) for one in self._questions)
            ):
                return look
        return None

    def used(self) -> frozenset[int]:
        """Return the indices of the images that the report covers."""
        return frozenset(self._order[: self.stop_at or self._images])

    def describe(self) -> Stopping:
        """Return the report's section on the stop; the shards of all images that the report covers must be finished."""
        stopped_at = self.stop_at
        used = stopped_at or self._images
        decisions = tuple(self._decision(question, used) for question in self._questions)
        return Stopping(
            rule=self._rule.kind,
            alpha=self._rule.alpha,
            alpha_each=rounded(self._alpha),
            order_seed=self._seed,
            images_total=self._images,
            images_used=used,
            looks=sum(look <= used for look in looks(self._images, self._rule.first_look)),
            stopped_early=stopped_at is not None,
            decisions=decisions,
            reason=self._reason(stopped_at, decisions),
        )

    def _complete(self) -> int:
        """Return the number of images in the order before the first one that is missing for any model."""
        missing = (
            position
            for position, index in enumerate(self._order)
            if any(index not in known for known in self._known.values())
        )
        return next(missing, self._images)

    def _copies(self, count: int) -> bool:
        """Return whether two of the first images are copies of each other."""
        seen = [self._digests[index] for index in self._order[:count] if index in self._digests]
        return len(set(seen)) < len(seen)

    def _has_evidence(self, question: Question, count: int) -> bool:
        """Return whether enough of the first images have a value for a pass."""
        used = [index for index in self._order[:count] if index in self._digests]
        known = sum(index in self._values[question.model, question.row] for index in used)
        return known >= question.condition.min_images and 2 * known >= len(used)

    def _sequence(self, question: Question, count: int) -> _Sequence:
        values = self._values[question.model, question.row]
        check, _, metric, _ = question.row
        return _Sequence(
            question.condition,
            self._metrics[check][metric],
            np.array([values.get(index, np.nan) for index in self._order[:count]], dtype=np.float64),
            self._images,
            self._alpha,
        )

    def _decision(self, question: Question, used: int) -> ConditionDecision:
        sequence = self._sequence(question, used)
        decided = sequence.decide()
        status: Literal["met", "missed"] | None = None
        if decided.met is not None:
            status = "met" if decided.met else "missed"
        return ConditionDecision(
            condition=question.id,
            model=question.model,
            decided=status,
            decided_at=decided.at,
            interval=sequence.interval(),
            bounds=(sequence.lowest, sequence.highest),
        )

    def _reason(self, stopped_at: int | None, decisions: Sequence[ConditionDecision]) -> str:
        rate = f"{100 * self._rule.alpha:g} %"
        if stopped_at is not None:
            seen = f"{stopped_at} of {self._images} images"
            return f"Stopped after {seen}: every condition was decided at error rate {rate}."
        late = sorted({found.condition for found in decisions if found.decided_at is None})
        poor = sorted(
            {
                found.condition
                for question, found in zip(self._questions, decisions, strict=True)
                if not self._has_evidence(question, self._images)
            }
        )
        boundless = sorted({found.condition for found in decisions if found.bounds == (None, None)})
        if boundless:
            why = f"{_listed(boundless)} is on a metric without bounds, which only all images can decide"
        elif late:
            why = f"{_listed(late)} was not decided earlier, at error rate {rate}"
        elif self._copies(self._images):
            why = "some images are copies of others, but a stop rule needs distinct images"
        elif poor:
            why = f"{_listed(poor)} has too few images with a value"
        else:
            why = f"the last condition was decided only after the last look, at error rate {rate}"
        return f"Used all {self._images} images: {why}."


def _listed(conditions: Sequence[str]) -> str:
    more = f" (and {len(conditions) - 1} more)" if len(conditions) > 1 else ""
    return f"condition {conditions[0]}{more}"
