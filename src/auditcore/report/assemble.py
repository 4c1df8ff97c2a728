"""Assemble shard results into one report, which does not depend on how the shards were scheduled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import chain

import numpy as np

from auditcore.contracts.baseline_reference import BASELINE_MODEL
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.images import labels_of
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import questions_of
from auditcore.contracts.presets import checks_of_several_models
from auditcore.contracts.report import (
    AuditReport,
    BaselineModel,
    BoxPlot,
    ExcludedImage,
    Manifest,
    PooledStatistics,
    ReportImages,
    Result,
    UsedImage,
)
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import CheckCost, Cost, ImageRecord, Measurement, ShardResult
from auditcore.contracts.significance import rounded
from auditcore.costs.estimate import BACKWARD_COST
from auditcore.errors import DigestMismatch, ModelChanged, NoUsableImages
from auditcore.metrics.quartiles import box_plot
from auditcore.metrics.statistics import INTERVAL_RULE, SMALL_SAMPLE
from auditcore.report import pooling
from auditcore.report.averages import average_explainers, correlate_with_occlusion, rank_models
from auditcore.report.bootstrap import mean_curve, summaries
from auditcore.report.bounds import bounds_of, kinds_of
from auditcore.report.comparisons import compare_models
from auditcore.report.deviation import deviation_of
from auditcore.report.floors import with_floors
from auditcore.report.gate import judge
from auditcore.report.image_dependence import image_dependence, of_pairs
from auditcore.report.intervals import calibrated_intervals
from auditcore.report.leads import leads_of
from auditcore.report.measured_model import MeasuredModel, measured_model
from auditcore.report.policy import policy_of
from auditcore.report.pooling import pooled_statistics
from auditcore.report.reliability import measure_reliability
from auditcore.report.slices import slices_of
from auditcore.report.stopping import Conclusion, image_order, observe
from auditcore.report.warnings import warnings_of


def assemble(
    *,
    audit_id: str,
    request: AuditRequest,
    plan: AuditPlan,
    results: Sequence[ShardResult],
    shared: Mapping[str | None, Mapping[str, tuple[float, ...]]],
    attempts: int,
    started_at: str | None,
    finished_at: str | None,
    estimated_seconds: float | None = None,
    image_count: int | None = None,
    baseline: AuditReport | None = None,
) -> AuditReport:
    """Merge shard results, summarize them over images, compare the models and evaluate the policy.

    Args:
        audit_id: Identifier of the audit.
        request: The original request.
        plan: The full plan.
        results: All shard results, any model, any wave, any order. The shards of each model cover all images, or those
            before a stop rule ended the audit; results beyond that are ignored.
        shared: Name of a model, None in an audit of one -> quantities reduced from its own measure wave, in the order
            of the request.
        attempts: Number of shard executions started, including lost ones.
        started_at: Start of the first shard, ISO 8601; not part of what must be reproducible.
        finished_at: End of the last shard.
        estimated_seconds: Estimated time of the audit, if there was an estimate; not part of what must be reproducible.
        image_count: Number of images of the batch; if None, that of the results, which a stop rule may have reduced.
        baseline: The earlier report that conditions on changes compare with.

    Raises:
        InvalidRequest: The policy or the baseline does not fit the audit.
        NoUsableImages: Every image was excluded by every model; the message gives the first reason.
        DigestMismatch: Shards of one model ran on different weights.
        ModelChanged: The model of the baseline is not that of its report.
    """
    computed = [result for result in results if result.wave == "compute"]
    total = image_count or len({record.index for result in computed for record in result.images})
    stopping = None
    if request.stop is not None:
        named = [name for name, _ in request.references if name is not None]
        watched = frozenset(question.row for question in questions_of(request.conditions, plan, named))
        observations = [observe(watched, result) for result in computed]
        conclusion = Conclusion(request, plan, images=total, observations=observations)
        stopping, used = conclusion.describe(), conclusion.used()
        # a shard never spans a look, so its first image decides for all of its images
        results = [result for result in results if result.wave == "measure" or result.images[0].index in used]
    models: list[MeasuredModel] = []
    for position, (name, reference) in enumerate(request.references):
        with blaming_model(name, position):
            models.append(measured_model(name, reference, results))
    names = tuple(model.name for model in models if model.name is not None)
    earlier = _baseline_model(request, models, baseline)
    _refuse_other_references(models)
    artifacts = tuple(sorted(chain.from_iterable(model.artifacts for model in models), key=lambda one: one.image))
    pictured = len({artifact.image for artifact in artifacts})
    images = _images(models, pictured=pictured, total=total, class_names=_class_names(request, models))
    order = tuple(item.index for item in images.items)

    taken = None if request.stop is None else image_order(plan.seed, total)
    measured = {model.name: (*model.measurements(order), *image_dependence(model, order, taken)) for model in models}
    merged = [(model, one) for model, found in measured.items() for one in found]
    digests = tuple(item.digest for item in images.items)
    pooled = {model: pooled_statistics(plan, found) for model, found in measured.items()}
    summarized = with_floors(plan, [of_pairs(row) for row in _summarize(merged, pooled, plan, digests)])
    rows = tuple(zip(summarized, merged, strict=True))
    random_labels = {explainer.label for explainer in plan.explainers if explainer.is_control}
    controls = tuple(row for row, (_, one) in rows if one.control or row.explainer in random_labels)
    listed = tuple(row for row, (_, one) in rows if not (one.control or row.explainer in random_labels))
    judgment = judge(
        request.conditions,
        plan,
        models=[model.described for model in models],
        results=listed,
        controls=controls,
        digests=digests,
        decisions=() if stopping is None else stopping.decisions,
        stopped_early=stopping is not None and stopping.stopped_early,
        baseline=baseline,
    )
    return AuditReport(
        audit_id=audit_id,
        verdict=judgment.verdict,
        verdict_reason=judgment.verdict_reason,
        statistics=judgment.statistics,
        model=None if names else models[0].described,
        models=tuple(model.described for model in models) if names else (),
        images=images,
        plan=plan,
        intervals=calibrated_intervals(plan, shared),
        not_applicable={
            explainer if model.name is None else f"{model.name}/{explainer}": reason
            for model in models
            for explainer, reason in model.not_applicable.items()
        },
        results=listed,
        slices=slices_of(
            plan,
            measured,
            {model.name: [model.targets.get(index, ()) for index in order] for model in models},
            digests,
        ),
        comparisons=compare_models(listed, names, plan, digests),
        leads=leads_of(listed, plan, digests),
        reliability=measure_reliability(listed, tuple(model.described for model in models), random_labels)
        if names
        else (),
        averages=average_explainers(listed, names, plan, digests),
        rankings=rank_models(listed, names, digests),
        occlusion_correlations=correlate_with_occlusion(listed, names),
        policy=policy_of(request.policy),
        conditions=judgment.conditions,
        baseline=judgment.baseline,
        baseline_model=earlier,
        stopping=stopping,
        controls=controls,
        warnings=warnings_of(plan, listed, controls),
        notes=tuple(dict.fromkeys((*(note for result in results for note in result.notes), *_left_out(request)))),
        deviation=deviation_of(plan, {model.name: model.shards for model in models}),
        artifacts=artifacts,
        cost=_total_cost(results).model_copy(update={"estimated_seconds": estimated_seconds}),
        manifest=Manifest(
            auditcore_version=version("auditcore"),
            seed=plan.seed,
            preset=request.plan.preset if isinstance(request.plan, PresetPlan) else None,
            request_digest=digest_of(request),
            plan_digest=digest_of(plan),
            environment=models[0].shards[0].environment,
            interval=INTERVAL_RULE,
            shards=len(results),
            attempts=attempts,
            micro_batches=tuple(sorted({r.cost.micro_batch for r in results if r.cost.micro_batch is not None})),
            started_at=started_at,
            finished_at=finished_at,
        ),
    )


def _refuse_other_references(models: Sequence[MeasuredModel]) -> None:
    """Refuse shards that compared their model with other weights than those of the model that this report lists.

    Raises:
        DigestMismatch: A file behind a model has changed during the audit.
    """
    if models[0].name is None:
        return
    digests = {model.name: model.described.digest for model in models}
    positions = {model.name: position for position, model in enumerate(models)}
    for model in models:
        for shard in model.shards:
            for name, digest in shard.references.items():
                if digest != digests[name]:
                    field = f"models.{positions[name]}.model.weights"
                    raise DigestMismatch(expected=digests[name], actual=digest, field=field)


def _baseline_model(
    request: AuditRequest, models: Sequence[MeasuredModel], report: AuditReport | None
) -> BaselineModel | None:
    """Describe the model of the baseline that was loaded beside the only model; None if none was.

    Raises:
        ModelChanged: It is not the model of the baseline's report.
    """
    reference = None if request.baseline is None else request.baseline.model
    if reference is None or report is None:
        return None
    (expected,) = (model.digest for model in report.audited_models)
    for shard in models[0].shards:
        found = shard.references[BASELINE_MODEL]
        if found != expected:
            msg = (
                f"the model of the baseline has changed since audit {report.audit_id}: its digest was {expected}, and "
                f"is {found} now; give the same model as `baseline.model`, or list both models under `models`"
            )
            raise ModelChanged(msg, field="baseline.model")
    return BaselineModel(reference=reference, digest=expected)


def _left_out(request: AuditRequest) -> tuple[str, ...]:
    """Say which checks of a preset an audit of one model leaves out."""
    checks = () if request.models else checks_of_several_models(request.plan)
    return tuple(
        f"the preset compares models by the check {check!r}, which an audit of one `model` leaves out; list several "
        "under `models` to have it, or write the plan in full and name a `baseline`"
        for check in checks
    )


def _class_names(request: AuditRequest, models: Iterable[MeasuredModel]) -> dict[int, str]:
    """Class -> its name: those of the request, or else what the first model that knows a name calls it."""
    if request.class_names:
        return dict(enumerate(request.class_names))
    found: dict[int, str] = {}
    for shard in chain.from_iterable(model.shards for model in models):
        found = shard.class_names | found
    return found


def _images(
    models: Sequence[MeasuredModel], *, pictured: int, total: int, class_names: Mapping[int, str]
) -> ReportImages:
    """List the images: used by at least one model, excluded by all models, or never examined."""
    records = tuple(models[0].records.values())
    used, excluded = [], []
    for record in records:
        item = _used(record.index, models)
        if item is not None:
            used.append(item)
        else:
            excluded.append(
                ExcludedImage(
                    index=record.index,
                    name=record.name,
                    digest=record.digest,
                    code=record.code or "",
                    reason=record.reason or "",
                )
            )
    if not used:
        msg = f"none of the {len(records)} images can be used; the first one: {excluded[0].reason}"
        raise NoUsableImages(msg, field="images")
    digests = hashlib.sha256("".join(f"{record.digest}\n" for record in records).encode())
    return ReportImages(
        count=total,
        used=len(used),
        pictured=pictured,
        excluded=tuple(excluded),
        not_examined=total - len(records),
        digest=f"sha256:{digests.hexdigest()}",
        items=tuple(used),
        class_names={number: class_names[number] for number in _classes_of(used) if number in class_names},
    )


def _classes_of(images: Iterable[UsedImage]) -> list[int]:
    """All classes that images were explained for or have as a label."""
    found = set()
    for image in images:
        explained = (*image.further_targets, *chain.from_iterable(image.by_model.values()))
        found |= {image.target, *(one.target for one in explained), *labels_of(image.label)}
    return sorted(found)


def _used(index: int, models: Sequence[MeasuredModel]) -> UsedImage | None:
    by_model: dict[str | None, ImageRecord] = {
        model.name: model.records[index] for model in models if model.records[index].targets
    }
    record = next(iter(by_model.values()), None)
    if record is None or record.digest is None:
        return None
    first, *further = record.targets
    return UsedImage(
        index=index,
        name=record.name,
        digest=record.digest,
        label=record.label,
        target=first.target,
        probability=first.probability,
        further_targets=tuple(further),
        by_model={name: own.targets for name, own in by_model.items() if name is not None},
        note=record.note,
    )


def _summarize(
    merged: Sequence[tuple[str | None, Measurement]],
    pooled: Mapping[str | None, Mapping[pooling.Key, PooledStatistics]],
    plan: AuditPlan,
    digests: Sequence[str],
) -> list[Result]:
    """Compute mean, spread and confidence interval of every measurement; all share the same bootstrap resamples."""
    kinds = kinds_of(plan)
    bounds = [bounds_of(kinds, row.check, row.metric) for _, row in merged]
    found = summaries([row.values for _, row in merged], images=digests, bounds=bounds, seed=plan.seed)
    count = len(set(digests))
    return [
        Result(
            model=model,
            check=row.check,
            explainer=row.explainer,
            metric=row.metric,
            variant=row.variant,
            unit=row.unit,
            higher_is_better=row.higher_is_better,
            n=summary.n,
            n_not_applicable=count - summary.n,
            mean=summary.mean,
            std=summary.std,
            sem=summary.sem,
            ci=summary.ci,
            ci_reason=summary.ci_reason,
            ranked_by=row.ranked_by,
            small_sample=summary.n < SMALL_SAMPLE,
            per_image=row.values,
            reasons=row.reasons,
            curve=None if row.curve is None else mean_curve(row.curve, images=digests, seed=plan.seed),
            box=_box(row, kinds.get(row.check)),
            pooled=pooled[model].get((row.check, row.explainer, row.metric, row.variant)),
        )
        for (model, row), summary in zip(merged, found, strict=True)
    ]


def _box(row: Measurement, kind: str | None) -> BoxPlot | None:
    """Quartiles over images of the metrics that are listed with them."""
    if kind is None or not METRICS[kind][row.metric].boxed:
        return None
    found = box_plot(np.array([np.nan if value is None else value for value in row.values], dtype=np.float64))
    return None if found is None else BoxPlot(**{name: rounded(value) for name, value in found._asdict().items()})


def _total_cost(results: Sequence[ShardResult]) -> Cost:
    """Sum the cost of all shards of all models and waves."""
    costs = [result.cost for result in results]
    total = _passes(costs)
    checks = {
        name: _passes([cost.checks[name] for cost in costs if name in cost.checks])
        for name in dict.fromkeys(name for cost in costs for name in cost.checks)
    }
    return Cost(
        forward_images=total.forward_images,
        backward_images=total.backward_images,
        checks={
            name: cost.model_copy(update={"share": rounded(_weight(cost) / max(1.0, _weight(total)))})
            for name, cost in checks.items()
        },
        seconds=sum(cost.seconds for cost in costs),
        device=costs[0].device,
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
    )


def _passes(costs: Iterable[Cost | CheckCost]) -> CheckCost:
    forward, backward = 0, 0
    for cost in costs:
        forward += cost.forward_images
        backward += cost.backward_images
    return CheckCost(forward_images=forward, backward_images=backward)


def _weight(cost: CheckCost) -> float:
    """Return the cost in forward passes."""
    return cost.forward_images + BACKWARD_COST * cost.backward_images
