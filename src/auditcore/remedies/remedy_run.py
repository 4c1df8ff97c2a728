"""A remedy in this process: search, train, audit again with the same plan and policy, compare.

The model that failed is never replaced: the result is another file of weights and a report on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch

from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.checks import Check
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.remedies.report import (
    Candidate,
    ConditionChange,
    MetricChange,
    Outcome,
    RemediedCondition,
    RemedyReport,
)
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.optimizers import Adam
from auditcore.contracts.training.plan import EpochAudit, TrainingPlan
from auditcore.contracts.training.report import EpochMeasurement
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.models.loading import load_classifier
from auditcore.remedies.failed_conditions import check_of, condition_to_remedy, explainer_of, policy_of
from auditcore.report.baseline import Baseline, Compared, digests_of, require_comparable
from auditcore.report.result_keys import result_key
from auditcore.report.serialize import report_bytes
from auditcore.sources.resolving import resolve_model
from auditcore.training.evaluation import measure_explanations, validate
from auditcore.training.local_training import Trained, read_other_images, train, training_sets
from auditcore.training.network import Network
from auditcore.training.stages import in_stage

LOST_ACCURACY = "it loses more of the validation score than `accuracy_guard` allows"
NO_VALUE = "the metric has no value on the validation images"


@final
@dataclass(frozen=True)
class Remedy:
    """What a remedy gives.

    Attributes:
        report: What was tried and what came of it.
        trained: The trained model; None if nothing kept the accuracy.
        model: How an audit names it, by the file in `out`; None without one.
        audit: Its audit, by the plan and the policy of the one that failed; None without a trained model.
    """

    report: RemedyReport
    trained: Trained | None
    model: BuiltModel | None
    audit: AuditReport | None


@final
@dataclass(frozen=True)
class _Data:
    """Encoded images of a remedy."""

    training: Sequence[EncodedImage]
    validation: Sequence[EncodedImage] | None


def remedy(
    failed: AuditReport,
    request: RemedyRequest,
    *,
    audited_images: Sequence[EncodedImage],
    out: Path,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    policy: Sequence[Condition] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float, str], None] = lambda _share, _now: None,
) -> Remedy:
    """Fine-tune the model of a failed audit so that the failed explanations become faithful, and audit it again.

    Args:
        failed: The report that failed, of one model.
        request: Labeled images to train on, and what may be tried.
        audited_images: The encoded images of that audit, in its order.
        out: Folder for the trained weights, from which they are audited.
        images: Encoded training images to use instead of `request.images`.
        validation: Encoded validation images to use instead of `request.validation`.
        policy: The conditions; those that the report has judged if None.
        access: What the model's reference may reach; nothing but the demo by default.
        device: Where the model is trained and audited.
        progress: Called with the share done, in [0,1], and what is being done; may raise AuditCancelled.

    Raises:
        InputError: The report has nothing that training can reach, or an input cannot be used; `field` says which.
    """
    access = access or AccessRules()
    condition = condition_to_remedy(failed, request.plan.condition)
    (model,) = failed.audited_models
    require_trainable(model.reference)
    require_comparable(failed, models=[None], images=[image.digest for image in audited_images])
    reference = resolve_model(model.reference, access).reference
    data = _read(request, reference, access, images, validation)
    _require_apart(failed, data.training, use="training", field="images")
    _require_apart(failed, data.validation or (), use="validation", field="validation")
    start_score, start_value = _measure_start(request, reference, condition, failed, data, access, device)
    steps = len(request.plan.learning_rates) + 2
    candidates, seconds = [], 0.0
    for number, rate in enumerate(request.plan.learning_rates):
        told = in_stage(progress, f"training with learning rate {rate:g}", done=number, stages=steps)
        wanted = training_of(request, reference, condition, failed, rate=rate, epochs=max(request.plan.epochs))
        tried = train(
            wanted, images=data.training, validation=data.validation, access=access, device=device, progress=told
        )
        seconds += tried.report.cost.seconds
        candidates += _candidates(tried, request.plan, condition, rate, start_score)
    best = _best(candidates, condition)
    if best is None:
        return Remedy(
            _report(failed, request, condition, candidates, start_score, start_value, seconds), None, None, None
        )
    candidates = [one.model_copy(update={"chosen": one is best}) for one in candidates]
    told = in_stage(progress, "training the chosen model", done=steps - 2, stages=steps)
    wanted = training_of(request, reference, condition, failed, rate=best.learning_rate, epochs=best.epochs)
    trained = train(
        wanted, images=data.training, validation=data.validation, access=access, device=device, progress=told
    )
    out.mkdir(parents=True, exist_ok=True)
    written = trained.write(out / "remedied.safetensors")
    told = in_stage(progress, "auditing the trained model", done=steps - 1, stages=steps)
    after = audit(
        AuditRequest(
            model=written,
            images=ImageBatchReference(digest=sha256(b"")),
            plan=failed.plan,
            policy=tuple(policy) if policy is not None else policy_of(failed),
        ),
        images=audited_images,
        access=access.model_copy(update={"file_roots": (*access.file_roots, out.resolve())}),
        device=device,
        progress=told,
    )
    seconds += trained.report.cost.seconds + after.cost.seconds
    progress(1.0, "done")
    report = _report(
        failed, request, condition, candidates, start_score, start_value, seconds, trained=trained, after=after
    )
    return Remedy(report, trained, written, after)


def _require_apart(failed: AuditReport, images: Sequence[EncodedImage], *, use: str, field: str) -> None:
    """Refuse images of the audit for training and for the choice: a model that has seen them is not audited any more.

    Raises:
        InvalidRequest: An image is in both.
    """
    audited = set(digests_of(failed.images))
    both = [image for image in images if image.digest in audited]
    if both:
        called = both[0].name or f"number {both[0].index}"
        msg = (
            f"{len(both)} {use} images are images of the audit, such as {called}; take others, because a model that "
            "was made with an image says nothing about new ones"
        )
        raise InvalidRequest(msg, field=field)


def _read(
    request: RemedyRequest,
    reference: ModelReference,
    access: AccessRules,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
) -> _Data:
    models = ((None, reference),)
    if images is None:
        images = read_other_images(request.images, models, access, field="images")
    if validation is None and not isinstance(request.validation, HeldOut):
        validation = read_other_images(request.validation, models, access, field="validation")
    return _Data(images, validation)


def training_of(
    request: RemedyRequest,
    reference: ModelReference,
    condition: RemediedCondition,
    failed: AuditReport,
    *,
    rate: float,
    epochs: int,
) -> TrainingRequest:
    """One training of the search; a shorter one passes through the same weights as a longer one.

    Args:
        request: What may be tried.
        reference: The audited model, resolved.
        condition: What is to be remedied.
        failed: The report that failed.
        rate: Learning rate.
        epochs: Number of epochs.
    """
    plan = request.plan
    explainer = explainer_of(failed, condition.explainer)
    method = (
        Edda.model_validate({"explainer": explainer, "color": _color(_check(condition, failed))})
        if plan.method == "edda"
        else DeletionLoss.model_validate({"explainer": explainer})
    )
    return TrainingRequest(
        model=reference,
        images=request.images,
        validation=request.validation,
        plan=TrainingPlan(
            seed=plan.seed,
            epochs=epochs,
            batch_size=plan.batch_size,
            optimizer=Adam(learning_rate=rate),
            method=method,
            basic=plan.basic,
            epoch_audit=EpochAudit(plan=_probe(condition, failed), images=plan.probe_images),
        ),
    )


def _probe(condition: RemediedCondition, failed: AuditReport) -> AuditPlan:
    """The part of the failed plan that the condition is about."""
    return failed.plan.model_copy(
        update={
            "explainers": (explainer_of(failed, condition.explainer),),
            "checks": (_check(condition, failed).model_copy(update={"explainers": None}),),
        }
    )


def _color(check: Check) -> Literal["black", "mean"]:
    """The color with which a check fills pixels, so that the model learns from images like those it is judged by."""
    return "black" if "black" in check.fills.values() else "mean"


def _check(condition: RemediedCondition, failed: AuditReport) -> Check:
    check = check_of(failed, condition.check)
    assert check is not None  # noqa: S101 - the condition was found by it
    return check


def _measure_start(
    request: RemedyRequest,
    reference: ModelReference,
    condition: RemediedCondition,
    failed: AuditReport,
    data: _Data,
    access: AccessRules,
    device: torch.device | str,
) -> tuple[float | None, float | None]:
    """Score and failed metric of the audited model on the validation images."""
    wanted = training_of(request, reference, condition, failed, rate=1.0, epochs=1)
    start = load_classifier(reference, access=access, device=device)
    sets = training_sets(wanted, start, data.training, data.validation, access.limits)
    network = Network(start)
    probe = EpochAudit(plan=_probe(condition, failed), images=request.plan.probe_images)
    measured = measure_explanations(network, sets.validation, probe, reference, access.limits)
    return validate(network, sets.validation).score, _value(measured, condition)


def _value(measured: Sequence[EpochMeasurement], condition: RemediedCondition) -> float | None:
    return next(
        (
            one.mean
            for one in measured
            if (one.explainer, one.metric, one.variant) == (condition.explainer, condition.metric, condition.variant)
        ),
        None,
    )


def _candidates(
    tried: Trained, plan: RemedyPlan, condition: RemediedCondition, rate: float, start_score: float | None
) -> list[Candidate]:
    found = []
    for epochs in sorted(set(plan.epochs)):
        epoch = tried.report.epochs[epochs - 1]
        value = _value(epoch.measurements, condition)
        kept = (
            start_score is not None
            and epoch.validation_score is not None
            and epoch.validation_score >= start_score - plan.accuracy_guard
        )
        reason = NO_VALUE if value is None else None if kept else LOST_ACCURACY
        found.append(
            Candidate(
                learning_rate=rate,
                epochs=epochs,
                validation_score=epoch.validation_score,
                value=value,
                kept_accuracy=kept,
                reason=reason,
            )
        )
    return found


def _best(candidates: Sequence[Candidate], condition: RemediedCondition) -> Candidate | None:
    """The best value of those that kept the accuracy; among equals the first."""
    usable = [one for one in candidates if one.reason is None]
    sign = 1 if condition.higher_is_better else -1
    return max(usable, key=lambda one: sign * (one.value or 0.0), default=None)


def _report(
    failed: AuditReport,
    request: RemedyRequest,
    condition: RemediedCondition,
    candidates: Sequence[Candidate],
    start_score: float | None,
    start_value: float | None,
    seconds: float,
    *,
    trained: Trained | None = None,
    after: AuditReport | None = None,
) -> RemedyReport:
    changes = () if after is None else tuple(_changes(failed, after))
    outcome = _outcome(condition, changes, after)
    return RemedyReport(
        request=request,
        failed_report=sha256(report_bytes(failed)),
        condition=condition,
        outcome=outcome,
        summary=_summary(condition, changes, failed, after),
        start_score=start_score,
        start_value=start_value,
        candidates=tuple(candidates),
        plan=None if trained is None else trained.report.plan,
        training_report=None if trained is None else sha256(trained.report.model_dump_json(indent=2).encode()),
        model=None if trained is None else trained.report.trained.reference,
        verdict_before=failed.verdict,
        verdict_after=None if after is None else after.verdict,
        audit_report=None if after is None else sha256(report_bytes(after)),
        conditions=() if after is None else tuple(_conditions(failed, after)),
        changes=changes,
        accuracy_before=failed.audited_models[0].performance.accuracy,
        accuracy_after=None if after is None else after.audited_models[0].performance.accuracy,
        seconds=seconds,
    )


def _changes(failed: AuditReport, after: AuditReport) -> list[MetricChange]:
    baseline = Baseline(
        failed,
        plan=after.plan,
        models=after.audited_models,
        digests=[item.digest for item in after.images.items],
    )
    rows = [one for one in after.results if one.higher_is_better is not None]
    asked = [Compared(None, result_key(one)[1], one.per_image, bool(one.higher_is_better), "absolute") for one in rows]
    found = []
    for row, change in zip(rows, baseline.changes(asked), strict=True):
        found.append(
            MetricChange(
                check=row.check,
                explainer=row.explainer,
                metric=row.metric,
                variant=row.variant,
                before=change.baseline_mean,
                after=row.mean,
                improvement=change.change,
                ci=change.ci,
                n=change.n,
            )
        )
    return found


def _conditions(failed: AuditReport, after: AuditReport) -> list[ConditionChange]:
    def key(outcome: ConditionOutcome) -> tuple[object, ...]:
        return (
            outcome.check,
            outcome.explainer,
            outcome.metric,
            outcome.variant,
            outcome.comparison,
            outcome.threshold,
        )

    now = {key(outcome): outcome for outcome in after.conditions}
    return [
        ConditionChange(before=outcome, after=now[key(outcome)]) for outcome in failed.conditions if key(outcome) in now
    ]


def _own(condition: RemediedCondition, changes: Sequence[MetricChange]) -> MetricChange | None:
    return next(
        (
            one
            for one in changes
            if (one.check, one.explainer, one.metric, one.variant)
            == (condition.check, condition.explainer, condition.metric, condition.variant)
        ),
        None,
    )


def _outcome(condition: RemediedCondition, changes: Sequence[MetricChange], after: AuditReport | None) -> Outcome:
    if after is None:
        return "no_candidate"
    own = _own(condition, changes)
    improved = own is not None and own.ci is not None and own.ci[0] > 0
    if after.verdict == "pass":
        return "remedied"
    return "improved" if improved else "no_improvement"


def _summary(
    condition: RemediedCondition,
    changes: Sequence[MetricChange],
    failed: AuditReport,
    after: AuditReport | None,
) -> str:
    name = " ".join(part for part in (condition.check, condition.metric, condition.variant) if part)
    own = _own(condition, changes)
    if after is None or own is None:
        return (
            "Nothing that was tried kept the accuracy; try smaller learning rates, fewer epochs, or more training "
            "images."
        )
    moved = f"{name} of {condition.explainer} went from {_number(own.before)} to {_number(own.after)}"
    verdicts = f"the verdict was {failed.verdict} and is {after.verdict}"
    spread = "" if own.ci is None else f" (paired improvement {own.improvement:.3g}, 95 % interval {_interval(own.ci)})"
    return f"{moved}{spread}; {verdicts}."


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3g}"


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
