"""Shard results in index order become one report, however the shards were scheduled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.report import (
    AuditReport,
    Curve,
    ExcludedImage,
    Manifest,
    ReportImages,
    ReportModel,
    Result,
    UsedImage,
)
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import Cost, CurveSamples, ImageRecord, Measurement, ShardResult
from auditcore.contracts.significance import rounded, significant
from auditcore.errors import DigestMismatch, NoUsableImages
from auditcore.metrics.statistics import pointwise_ci, summarize
from auditcore.report.intervals import calibrated_intervals
from auditcore.report.verdict import count, evaluate, verdict

Key = tuple[str, str | None, str, str | None]


def assemble(
    *,
    audit_id: str,
    request: AuditRequest,
    plan: AuditPlan,
    results: Sequence[ShardResult],
    shared: Mapping[str, tuple[float, ...]],
    attempts: int,
    started_at: str | None,
    finished_at: str | None,
) -> AuditReport:
    """Merge shard results, summarize them over images and evaluate the policy.

    Args:
        audit_id: Identifier of the audit.
        request: What was asked, as it was asked.
        plan: The plan in full.
        results: All shard results, any wave, any order.
        shared: Quantities reduced from the measure wave.
        attempts: Shard executions started, including those lost.
        started_at: When the first shard began, ISO 8601; not part of what must repeat.
        finished_at: When the last shard ended.

    Raises:
        NoUsableImages: Every image was excluded; the message gives the first reason.
        DigestMismatch: Shards ran on different models.
    """
    compute = sorted(
        (result for result in results if result.wave == "compute"), key=lambda result: result.images[0].index
    )
    records = sorted((record for result in compute for record in result.images), key=lambda record: record.index)
    artifacts = tuple(artifact for result in compute for artifact in result.artifacts)
    images = _images(records, pictured=len({artifact.image for artifact in artifacts}))
    model = compute[0].model
    for result in compute:
        if result.model.digest != model.digest:
            raise DigestMismatch(expected=model.digest, actual=result.model.digest, field="model.weights")

    merged = _merge(compute)
    rows = _summarize(merged, seed=plan.seed)
    random_labels = {explainer.label for explainer in plan.explainers if explainer.kind == "random"}
    listed = tuple(row for row, measured in zip(rows, merged, strict=True) if not measured.control)
    edda = {check.label for check in plan.checks if check.kind == "edda"}
    controls = tuple(
        row
        for row, measured in zip(rows, merged, strict=True)
        if measured.control or (row.check in edda and row.explainer in random_labels)
    )
    outcomes = evaluate(request.policy, listed)
    statistics = count(outcomes)
    return AuditReport(
        audit_id=audit_id,
        verdict=verdict(statistics),
        statistics=statistics,
        model=ReportModel(
            reference=request.model,
            digest=model.digest,
            classes=model.classes,
            parameters=model.parameters,
            trained=model.trained,
            preprocessing=model.preprocessing,
        ),
        images=images,
        plan=plan,
        intervals=calibrated_intervals(plan, shared),
        not_applicable=next((result.not_applicable for result in compute if _used(result)), {}),
        results=listed,
        conditions=outcomes,
        controls=controls,
        artifacts=artifacts,
        cost=_total_cost(results),
        manifest=Manifest(
            auditcore_version=version("auditcore"),
            seed=plan.seed,
            preset=request.plan.preset if isinstance(request.plan, PresetPlan) else None,
            request_digest=digest_of(request),
            plan_digest=digest_of(plan),
            environment=compute[0].environment,
            shards=len(results),
            attempts=attempts,
            started_at=started_at,
            finished_at=finished_at,
        ),
    )


def _used(result: ShardResult) -> bool:
    return any(record.reason is None for record in result.images)


def _images(records: Sequence[ImageRecord], *, pictured: int) -> ReportImages:
    used = tuple(
        UsedImage(
            index=record.index,
            name=record.name,
            digest=record.digest,
            label=record.label,
            target=record.target,
            probability=record.probability,
        )
        for record in records
        if record.digest is not None and record.target is not None and record.probability is not None
    )
    excluded = tuple(
        ExcludedImage(
            index=record.index, name=record.name, digest=record.digest, code=record.code or "", reason=record.reason
        )
        for record in records
        if record.reason is not None
    )
    if not used:
        msg = f"none of the {len(records)} images can be used; the first one: {excluded[0].reason}"
        raise NoUsableImages(msg, field="images")
    digests = hashlib.sha256("".join(f"{record.digest}\n" for record in records).encode())
    return ReportImages(
        count=len(records),
        used=len(used),
        pictured=pictured,
        excluded=excluded,
        digest=f"sha256:{digests.hexdigest()}",
        items=used,
    )


def _key(measured: Measurement) -> Key:
    return measured.check, measured.explainer, measured.metric, measured.variant


def _merge(results: Sequence[ShardResult]) -> list[Measurement]:
    """Join the same measurement of consecutive shards, in the order of the first shard that has it."""
    parts: dict[Key, list[Measurement]] = {}
    for result in results:
        for measured in result.measurements:
            parts.setdefault(_key(measured), []).append(measured)
    return [_join(same) for same in parts.values()]


def _join(parts: Sequence[Measurement]) -> Measurement:
    curves = [part.curve for part in parts]
    curve = None
    if all(found is not None for found in curves):
        samples = [found for found in curves if found is not None]
        curve = CurveSamples(x=samples[0].x, values=tuple(row for found in samples for row in found.values))
    return parts[0].model_copy(
        update={
            "values": tuple(value for part in parts for value in part.values),
            "reasons": {index: reason for part in parts for index, reason in part.reasons.items()},
            "curve": curve,
        }
    )


def _summarize(merged: Sequence[Measurement], *, seed: int) -> list[Result]:
    """Mean, spread and confidence interval of every measurement; all share the same bootstrap resamples."""
    values = np.array([[np.nan if v is None else v for v in row.values] for row in merged], dtype=np.float64).T
    summaries = summarize(values, generator=_bootstrap_stream(seed))
    return [
        Result(
            check=row.check,
            explainer=row.explainer,
            metric=row.metric,
            variant=row.variant,
            unit=row.unit,
            higher_is_better=row.higher_is_better,
            n=found.n,
            n_not_applicable=len(row.values) - found.n,
            mean=_number(found.mean),
            std=_number(found.std),
            sem=_number(found.sem),
            ci=None if found.ci is None else (rounded(found.ci[0]), rounded(found.ci[1])),
            per_image=row.values,
            reasons=row.reasons,
            curve=_curve(row.curve, seed=seed),
        )
        for row, found in zip(merged, summaries, strict=True)
    ]


def _curve(samples: CurveSamples | None, *, seed: int) -> Curve | None:
    if samples is None:
        return None
    empty = (None,) * len(samples.x)
    points = np.array([[np.nan if v is None else v for v in row or empty] for row in samples.values], dtype=np.float64)
    band = pointwise_ci(points, generator=_bootstrap_stream(seed))
    mean, low, high = (tuple(significant(value) for value in part.tolist()) for part in (band.mean, band.lo, band.hi))
    return Curve(x=samples.x, mean=mean, lo=low, hi=high)


def _bootstrap_stream(seed: int) -> np.random.Generator:
    """The same resamples for every row, from the plan's seed."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0bootstrap".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _number(value: float | None) -> float | None:
    return None if value is None else significant(value)


def _total_cost(results: Sequence[ShardResult]) -> Cost:
    costs = [result.cost for result in results]
    return Cost(
        forward_images=sum(cost.forward_images for cost in costs),
        backward_images=sum(cost.backward_images for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        device=costs[0].device,
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
    )
