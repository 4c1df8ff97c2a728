"""Changes since a baseline: paired differences between an audit and an earlier one on the same images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from auditcore.contracts.metric import Bounds
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Row
from auditcore.contracts.report import AuditReport, BaselineChange, ReportBaseline, ReportImages, ReportModel
from auditcore.contracts.significance import rounded, significant
from auditcore.errors import InvalidRequest
from auditcore.metrics.statistics import Summary
from auditcore.report.bootstrap import summaries
from auditcore.report.bounds import bounds_of, bounds_of_differences, kinds_of
from auditcore.report.result_keys import Results, result_key

CHANGES_AT_ONCE = 1000
"""Limits memory: 10 000 resamples of 1000 changes are 80 MB. The resamples of a change do not depend on the others."""

NO_PAIR = "no image has a value in both audits"
MEAN_IS_ZERO = "the baseline's mean is 0, so no relative change is defined"


@final
@dataclass(frozen=True)
class Compared:
    """Values of an audit that are compared with a result of its baseline.

    Attributes:
        model: Name of the model in an audit of several.
        row: The result of the baseline.
        values: One per image of the audit, in the order of its report; None where undefined. Empty without a result.
        higher_is_better: Direction of the metric.
        kind: Whether the change is relative to the baseline's mean.
    """

    model: str | None
    row: Row
    values: Sequence[float | None]
    higher_is_better: bool
    kind: Literal["absolute", "relative"]


@final
class Baseline:
    """An earlier report, as an audit on the same images looks at it.

    Args:
        report: The earlier report.
        plan: The full plan of the audit.
        models: The models of the audit.
        digests: Digest of each image of the audit, in the order of its report.
    """

    def __init__(
        self, report: AuditReport, *, plan: AuditPlan, models: Sequence[ReportModel], digests: Sequence[str]
    ) -> None:
        self._report = report
        self._plan = plan
        self._models = models
        self._digests = digests
        self._results: Results = {result_key(one): one for one in (*report.results, *report.controls)}

    @property
    def images(self) -> int:
        """Number of distinct images of the audit."""
        return len(set(self._digests))

    def describe(self) -> ReportBaseline:
        """Return the report's section on the baseline."""
        own = {item.digest for item in self._report.images.items}
        return ReportBaseline(
            audit_id=self._report.audit_id,
            plan_digest=self._report.manifest.plan_digest,
            shared_images=len(own & set(self._digests)),
            differences=tuple(dict.fromkeys(one for model in self._models for one in self._differences(model.name))),
        )

    def differences(self, model: str | None, row: Row) -> tuple[str, ...]:
        """Return what differs besides the model and can be the reason for a change of a result; one phrase each."""
        label, explainer, _, _ = row
        own = self._report.plan
        parts = (
            ("check", label, self._plan.checks, own.checks),
            ("explainer", explainer, self._plan.explainers, own.explainers),
        )
        return (
            *self._differences(model),
            *(
                f"other settings of {what} {name}"
                for what, name, now, before in parts
                if next((one for one in now if one.label == name), None)
                != next((one for one in before if one.label == name), None)
            ),
        )

    def changes(self, asked: Sequence[Compared]) -> tuple[BaselineChange, ...]:
        """Compute the change of each of some values.

        Differences are paired by image, from values as printed; copies of an image count as one image. The interval is
        that of the mean difference, by the same method and resamples as all intervals of the report. A relative change
        is the mean difference over the absolute value of the baseline's mean over the same images, and so are the ends
        of its interval: the baseline's mean counts as exact, so its own uncertainty is not included.

        If the same model has the same values with the same settings, nothing has changed, and nothing can change on
        other images: the interval is exactly 0.
        """
        return tuple(
            change
            for start in range(0, len(asked), CHANGES_AT_ONCE)
            for change in self._changes(asked[start : start + CHANGES_AT_ONCE])
        )

    def _changes(self, asked: Sequence[Compared]) -> Iterator[BaselineChange]:
        pairs = [self._pairs(one) for one in asked]
        kinds = kinds_of(self._plan)
        found = summaries(
            [[None if pair is None else pair[0] for pair in own] for own in pairs],
            images=self._digests,
            bounds=[_bounds(kinds, one) for one in asked],
            seed=self._plan.seed,
        )
        for one, own, difference in zip(asked, pairs, found, strict=True):
            yield self._change(one, own, difference)

    def _pairs(self, asked: Compared) -> list[tuple[float, float] | None]:
        """Return the improvement and the baseline's value of each image; None without either value."""
        before = self._values(asked.model, asked.row)
        sign = 1.0 if asked.higher_is_better else -1.0
        return [
            None if value is None or digest not in before else (sign * (value - before[digest]), before[digest])
            for value, digest in zip(asked.values or [None] * len(self._digests), self._digests, strict=True)
        ]

    def _values(self, model: str | None, row: Row) -> dict[str, float]:
        """Return the baseline's value of each distinct image, the mean over its copies."""
        found = self._results.get((self._model(model), row))
        by_digest: dict[str, list[float]] = defaultdict(list)
        if found is not None:
            for item, value in zip(self._report.images.items, found.per_image, strict=True):
                if value is not None:
                    by_digest[item.digest].append(value)
        return {digest: float(np.mean(values)) for digest, values in by_digest.items()}

    def _change(
        self, asked: Compared, pairs: Sequence[tuple[float, float] | None], difference: Summary
    ) -> BaselineChange:
        before = {digest: pair[1] for digest, pair in zip(self._digests, pairs, strict=True) if pair is not None}
        mean_difference = difference.mean
        if mean_difference is None:
            reason = self._why_missing(asked)
            return BaselineChange(
                kind=asked.kind, n=0, baseline_mean=None, change=None, ci=None, ci_reason=reason, reason=reason
            )
        mean = float(np.mean(list(before.values())))
        scale = abs(mean) if asked.kind == "relative" else 1.0
        if all(pair is None or pair[0] == 0 for pair in pairs) and self._is_same_audit(asked.model, asked.row):
            difference = difference._replace(ci=(0.0, 0.0), ci_reason=None)
        if scale == 0:
            return BaselineChange(
                kind=asked.kind,
                n=difference.n,
                baseline_mean=0.0,
                change=None,
                ci=None,
                ci_reason=MEAN_IS_ZERO,
                reason=MEAN_IS_ZERO,
            )
        return BaselineChange(
            kind=asked.kind,
            n=difference.n,
            baseline_mean=significant(mean),
            change=significant(mean_difference / scale),
            ci=None
            if difference.ci is None
            else (rounded(difference.ci[0] / scale), rounded(difference.ci[1] / scale)),
            ci_reason=difference.ci_reason,
        )

    def _is_same_audit(self, model: str | None, row: Row) -> bool:
        """Return whether a result of the baseline was computed from the same model in the same way."""
        now, before = self._pair_of_models(model)
        same = now is not None and before is not None and now.digest == before.digest
        return same and not self.differences(model, row)

    def _pair_of_models(self, model: str | None) -> tuple[ReportModel | None, ReportModel | None]:
        """Return a model of the audit and the one of the baseline that it is compared with."""
        now = next((one for one in self._models if one.name == model), None)
        before = next((one for one in self._report.audited_models if one.name == self._model(model)), None)
        return now, before

    def _why_missing(self, asked: Compared) -> str:
        model = self._model(asked.model)
        if model not in {None, *(one.name for one in self._report.models)}:
            return f"the baseline has no model {model!r}"
        if (model, asked.row) not in self._results:
            return "the baseline has no such result"
        return NO_PAIR

    def _model(self, name: str | None) -> str | None:
        """Return what the baseline calls a model of the audit; a baseline of one model is that of every model."""
        return name if self._report.models else None

    def _differences(self, model: str | None) -> tuple[str, ...]:
        """Return what differs in the whole audit of a model; one phrase each."""
        report, plan = self._report, self._report.plan
        now, before = self._pair_of_models(model)
        found = []
        if now is not None and before is not None and now.preprocessing != before.preprocessing:
            found.append("another preprocessing")
        if plan.seed != self._plan.seed:
            found.append(f"seed {plan.seed} instead of {self._plan.seed}")
        if (plan.target, plan.top_n, plan.only_correct) != (
            self._plan.target,
            self._plan.top_n,
            self._plan.only_correct,
        ):
            found.append("another target")
        if plan.speed != self._plan.speed:
            found.append("another speed")
        if report.upgraded_from is not None:
            found.append(f"definitions of schema {report.upgraded_from.schema_version}")
        return tuple(found)


def require_comparable(
    baseline: AuditReport, *, models: Sequence[str | None], images: Iterable[str | None], unseen: int = 0
) -> None:
    """Refuse a baseline with other models or on other images.

    Args:
        baseline: The earlier report.
        models: Names of the models of the audit; None for the only one.
        images: Digest of each image of the audit; None where it is unknown.
        unseen: Images of the audit that are not listed, because a stop rule ended it.

    Raises:
        InvalidRequest: The baseline compares several models, and none has the name of a model of the audit. Or an image
            of one of the audits is not in the other.
    """
    of_models = [model.name for model in baseline.models]
    if of_models and not set(of_models) & set(models):
        listed = ", ".join(str(name) for name in of_models)
        msg = (
            f"the baseline, audit {baseline.audit_id}, compares several models ({listed}), and no model of this audit "
            "has one of these names; use an audit of one model, or the same names under `models`"
        )
        raise InvalidRequest(msg, field="baseline")
    known = list(images)
    own = list(digests_of(baseline.images))
    lacking, added = set(own) - set(known) - {None}, set(known) - set(own) - {None}
    if len(lacking) > known.count(None) + unseen or len(added) > own.count(None) + baseline.images.not_examined:
        msg = (
            f"the baseline, audit {baseline.audit_id}, used other images: {len(lacking)} of its images are not in this "
            f"audit, and {len(added)} images of this audit are not in the baseline; use the same images"
        )
        raise InvalidRequest(msg, field="baseline")


def digests_of(images: ReportImages) -> Iterable[str | None]:
    """Yield the digest of each image that an audit examined; None for a file that could not be read."""
    yield from (item.digest for item in images.items)
    yield from (image.digest for image in images.excluded)


def _bounds(kinds: Mapping[str, str], asked: Compared) -> Bounds:
    check, _, metric, _ = asked.row
    return bounds_of_differences(bounds_of(kinds, check, metric))
