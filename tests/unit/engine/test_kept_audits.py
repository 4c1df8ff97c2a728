"""Audits that go on from the results of shards that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.errors import AuditCancelled, WorkInterrupted
from auditcore.kept_files import KeptFolder

PLAN = AuditPlan(
    explainers=(Gradient(),),
    checks=(
        # automatic intervals make a wave of their own, on which the next one rests
        SweepCheck(augmentations=(Brightness(interval="auto"),), levels=3),
        DeletionCheck(grid=2, repeats=2),
    ),
)
SHARDS = 2 * 2 * 2
"""Two waves of two models on two parts of the images."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        digits.write_weights(folder, seed)
    return folder


def run(models: Path, kept: KeptFolder | None = None, **options: Callable[..., object]) -> AuditReport:
    """An audit of two models on six images, in shards of three."""
    names = {"first": "digits.safetensors", "second": "digits-1.safetensors"}
    request = AuditRequest(
        models=tuple(NamedModel(name=name, model=digits.reference(models / file)) for name, file in names.items()),
        images=ImageBatchReference(digest=f"sha256:{0:064d}"),
        plan=PLAN,
    )
    images = digits.encoded(6, labeled=True)
    return audit(
        request,
        images=images,
        access=digits.access(models),
        shard_images=3,
        audit_id="kept",
        kept=kept,
        **options,  # type: ignore[arg-type]
    )


def numbers(report: AuditReport) -> object:
    """What an audit has found out, without the times."""
    return report.results, report.controls, report.intervals, report.images, report.comparisons


def test_an_audit_that_is_interrupted_after_every_shard_finds_the_same(models: Path, tmp_path: Path) -> None:
    kept, interruptions, done = KeptFolder(tmp_path), 0, 0

    def one_more_shard() -> bool:
        return len(list(tmp_path.rglob("*.json"))) > done

    while True:
        done = len(list(tmp_path.rglob("*.json")))
        try:
            report = run(models, kept, enough=one_more_shard)
            break
        except WorkInterrupted:
            interruptions += 1
    assert interruptions == SHARDS - 1
    assert numbers(report) == numbers(run(models))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.long
def test_an_audit_that_dies_computes_only_the_shards_that_are_not_kept(models: Path, tmp_path: Path) -> None:
    kept, shares = KeptFolder(tmp_path), []

    def die_in_the_middle(share: float) -> None:
        if share > 0.5:
            raise AuditCancelled

    with pytest.raises(AuditCancelled):
        run(models, kept, progress=die_in_the_middle)
    finished = len(list(tmp_path.rglob("*.json")))
    assert finished == SHARDS // 2
    report = run(models, kept, progress=shares.append)
    assert min(shares) > 0.5
    assert numbers(report) == numbers(run(models))


def test_a_shard_is_given_up_between_micro_batches(models: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkInterrupted):
        run(models, KeptFolder(tmp_path), enough=lambda: True)
    assert not list(tmp_path.rglob("*.json"))
