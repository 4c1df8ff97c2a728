"""When the conditions of a policy are decided: the random order of the images, and what a prefix of it says.

Everything here is a function of seed, images and values. Which worker computed a shard, in which order shards were
done, and what was computed beyond the end changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np

from auditcore.contracts.metrics import METRICS, Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import ConditionDecision, Stopping
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.significance import rounded
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.metrics.confidence_sequences import OUT_OF_RANGE, first_refuted, lower_bound, upper_bound

Question = tuple[int, str | None]
"""Number of a condition of the policy, and the model it is asked of."""


def image_order(seed: int, images: int) -> tuple[int, ...]:
    """The order in which an audit with a stop rule takes its images.

    It follows from the seed and the number of images alone: before the last image is fetched nothing else is known of
    all of them. Audits of the same batch with the same seed look at the same images.

    Returns:
        Indices of the batch, uniformly random.
    """
    name = f"{seed}\0{images}\0order of images".encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "little")
    return tuple(np.random.Generator(np.random.Philox(key=key)).permutation(images).tolist())


@final
@dataclass(frozen=True)
class Observations:
    """What a shard says about the conditions of a policy, and no more: cheap to keep.

    Attributes:
        model: Name of the model in an audit of several.
        images: Indices of its images.
        values: Number of a condition -> index -> value; an image without a value is missing.
    """

    model: str | None
    images: tuple[int, ...]
    values: Mapping[int, Mapping[int, float]]


def observe(policy: Sequence[Condition], result: ShardResult) -> Observations:
    """The values of a compute shard that the conditions are about."""
    used = tuple(record.index for record in result.images if record.targets)
    measured = {(one.check, one.explainer, one.metric, one.variant): one for one in result.measurements}
    values: dict[int, dict[int, float]] = {}
    for number, wanted in enumerate(policy):
        found = measured.get((wanted.check, wanted.explainer, wanted.metric, wanted.variant))
        if found is not None:
            pairs = zip(used, found.values, strict=True)
            values[number] = {index: value for index, value in pairs if value is not None}
    return Observations(result.model_name, tuple(record.index for record in result.images), values)


@final
@dataclass(frozen=True)
class _Decided:
    """What the values of a prefix say about one condition of one model.

    Attributes:
        met: Whether the mean over all images meets it; None while that is open.
        at: Images after which that was known.
    """

    met: bool | None
    at: int | None


class _Sequence:
    """One condition of one model, and its values in the random order."""

    def __init__(self, condition: Condition, metric: Metric, values: np.ndarray, population: int, alpha: float) -> None:
        self._values = values
        self._population = population
        self._alpha = alpha
        self._at_least = condition.at_least is not None
        threshold = condition.at_least if condition.at_least is not None else condition.at_most
        assert threshold is not None  # noqa: S101 - the contract admits exactly one threshold
        self._threshold = threshold
        present = values[~np.isnan(values)]
        # a bound that a value breaks is no bound: nothing may rest on it
        low, high = metric.lowest, metric.highest
        holds_low = low is not None and present.min(initial=low) >= low - OUT_OF_RANGE * max(1.0, abs(low))
        holds_high = high is not None and present.max(initial=high) <= high + OUT_OF_RANGE * max(1.0, abs(high))
        self.lowest = low if holds_low else None
        self.highest = high if holds_high else None

    def decide(self) -> _Decided:
        """Which side of the threshold the mean over all images is on, as soon as the values say so."""
        defined = np.flatnonzero(~np.isnan(self._values))
        if not defined.size:
            return _Decided(met=None, at=None)  # without any value there is no mean, whatever is impossible
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
        if self.lowest is None:
            return None
        return first_refuted(
            self._values, population=self._population, claim=self._threshold, lowest=self.lowest, alpha=self._alpha
        )

    def _below(self) -> int | None:
        if self.highest is None:
            return None
        return first_refuted(
            -self._values, population=self._population, claim=-self._threshold, lowest=-self.highest, alpha=self._alpha
        )

    def _cannot_miss(self) -> bool:
        """Whether the threshold is the bound itself, which every mean meets."""
        bound = self.lowest if self._at_least else self.highest
        return bound is not None and (self._threshold <= bound if self._at_least else self._threshold >= bound)

    def interval(self) -> tuple[float | None, float | None]:
        """Both ends of the confidence sequence after these values; None at an end without a bound."""
        low = high = None
        if self.lowest is not None:
            low = lower_bound(self._values, population=self._population, lowest=self.lowest, alpha=self._alpha)
        if self.highest is not None:
            high = upper_bound(self._values, population=self._population, highest=self.highest, alpha=self._alpha)
        return (None if low is None else rounded(low), None if high is None else rounded(high))


@final
class Conclusion:
    """What a stop rule makes of the shards that are done.

    Args:
        request: The audit; it has a stop rule.
        plan: Its plan in full.
        images: How many images the batch has.
        observations: Of compute shards, in any order.
    """

    def __init__(
        self, request: AuditRequest, plan: AuditPlan, *, images: int, observations: Iterable[Observations]
    ) -> None:
        assert request.stop is not None  # noqa: S101 - without a rule there is nothing to conclude
        self._rule: Conclusive = request.stop
        self._policy = request.policy
        self._seed = plan.seed
        self._images = images
        self._kinds = {check.label: check.kind for check in plan.checks}
        self._models = tuple(name for name, _ in request.references)
        self._order = image_order(plan.seed, images)
        self._questions: tuple[Question, ...] = tuple(
            (number, model)
            for number, condition in enumerate(self._policy)
            for model in ((condition.model,) if condition.model is not None else self._models)
        )
        self._alpha = self._rule.alpha / len(self._questions)
        self._known: dict[str | None, set[int]] = {model: set() for model in self._models}
        self._values: dict[Question, dict[int, float]] = {question: {} for question in self._questions}
        for one in observations:
            self._known[one.model].update(one.images)
            for number, values in one.values.items():
                if (number, one.model) in self._values:
                    self._values[number, one.model].update(values)

    @cached_property
    def stop_at(self) -> int | None:
        """Images after which the audit ends early: the first look at which every condition is decided.

        Only images count before which none is missing, for any model. None while there is no such look.
        """
        complete = self._complete()
        latest = 0
        for question in self._questions:
            at = self._sequence(question, complete).decide().at
            if at is None:
                return None
            latest = max(latest, at)
        look = next(look for look in looks(self._images, self._rule.first_look) if look >= latest)
        return look if look <= complete and look < self._images else None

    def used(self) -> frozenset[int]:
        """Indices of the images that the report is about."""
        return frozenset(self._order[: self.stop_at or self._images])

    def describe(self) -> Stopping:
        """What the report says about the stop; the shards of all images that it is about must be done."""
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
        """Images of the order up to the first that is missing for some model."""
        missing = (
            position
            for position, index in enumerate(self._order)
            if any(index not in known for known in self._known.values())
        )
        return next(missing, self._images)

    def _sequence(self, question: Question, count: int) -> _Sequence:
        condition = self._policy[question[0]]
        values = self._values[question]
        return _Sequence(
            condition,
            METRICS[self._kinds[condition.check]][condition.metric],
            np.array([values.get(index, np.nan) for index in self._order[:count]], dtype=np.float64),
            self._images,
            self._alpha,
        )

    def _decision(self, question: Question, used: int) -> ConditionDecision:
        number, model = question
        sequence = self._sequence(question, used)
        decided = sequence.decide()
        status: Literal["met", "missed"] | None = None
        if decided.met is not None:
            status = "met" if decided.met else "missed"
        return ConditionDecision(
            condition=self._policy[number].id or str(number),
            model=model,
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
        boundless = sorted({found.condition for found in decisions if found.bounds == (None, None)})
        if boundless:
            why = f"{_listed(boundless)} is about a metric without bounds, which nothing less can decide"
        elif late:
            why = f"{_listed(late)} was not decided before, at error rate {rate}"
        else:
            why = f"the last condition was decided so late that no look was left, at error rate {rate}"
        return f"Used all {self._images} images: {why}."


def _listed(conditions: Sequence[str]) -> str:
    more = f" (and {len(conditions) - 1} more)" if len(conditions) > 1 else ""
    return f"condition {conditions[0]}{more}"
