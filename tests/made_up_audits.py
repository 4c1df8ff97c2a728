"""Shard results of models that never ran, for tests of what a report makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.shards import Cost, ExplainedClass, ImageRecord, Measurement, ModelRecord, ShardResult
from auditcore.report.assemble import assemble

PLAN = AuditPlan(
    seed=3,
    explainers=(Gradient(), InputXGradient(), GradCam(), Random()),
    checks=(SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))), DeletionCheck()),
)


NAMES = ("one", "two", "three")


def row(explainer: str | None, values: Sequence[float | None], **changes: Any) -> Measurement:
    """The symmetric relevance gain of an explainer, unless changes say otherwise."""
    fields = {"check": "deletion", "explainer": explainer, "metric": "srg", "unit": "probability",
              "higher_is_better": True, "values": tuple(values)}  # fmt: skip
    return Measurement.model_validate(fields | changes)


def digest(index: int) -> str:
    """The digest of an image."""
    return sha256(bytes([index]))


def shard(
    model: str | None,
    images: Mapping[int, Sequence[int] | str],
    *rows: Measurement,
    copies: Mapping[int, int] | None = None,
    **changes: Any,
) -> ShardResult:
    """What a model found out about images: index -> classes explained, or why the image was left out.

    `copies` says which images are copies of others: index of the copy -> index of the other.
    """
    same = {index: (copies or {}).get(index, index) for index in images}
    records = tuple(
        ImageRecord(index=index, digest=digest(same[index]), code="not_correct", reason=found)
        if isinstance(found, str)
        else ImageRecord(
            index=index,
            digest=digest(same[index]),
            targets=tuple(ExplainedClass(target=target, probability=0.5) for target in found),
        )
        for index, found in images.items()
    )
    of_model = "sha256:" + "0abc"[(None, *NAMES).index(model)] * 64
    fields = {
        "wave": "compute", "model_name": model, "images": records, "measurements": rows, "cost": Cost(),
        "model": ModelRecord(
            digest=of_model, classes=10, parameters=5, trained=True, preprocessing=Preprocessing()
        ),
    }  # fmt: skip
    return ShardResult.model_validate(fields | changes)


def report(
    *results: ShardResult,
    plan: AuditPlan = PLAN,
    policy: tuple[Condition, ...] = (),
    shared: Mapping[str | None, Mapping[str, tuple[float, ...]]] | None = None,
) -> AuditReport:
    """The report over these shards, of one model or of those that they name."""
    found = {result.model_name for result in results}
    several = tuple(NamedModel(name=name, model=DemoModel()) for name in NAMES if name in found)
    request = AuditRequest(
        model=None if several else DemoModel(), models=several,
        images=ImageBatchReference(digest="sha256:" + "0" * 64), plan=plan, policy=policy,
    )  # fmt: skip
    return assemble(
        audit_id="a", request=request, plan=plan, results=results, shared=shared or {}, attempts=len(results),
        started_at=None, finished_at=None,
    )  # fmt: skip
