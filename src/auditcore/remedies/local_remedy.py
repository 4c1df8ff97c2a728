"""A remedy in this process, without any service, with everything kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from pydantic import TypeAdapter

from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.policy import Condition
from auditcore.contracts.remedies.failed_conditions import policy_of
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.remedies.stages import remedy_stages
from auditcore.contracts.report import AuditReport
from auditcore.contracts.training.request import HeldOut
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFolder, read_kept
from auditcore.orchestration.kept_request import keep_request
from auditcore.orchestration.staged_runs import run_stages
from auditcore.remedies.remedy_run import AUDIT, RemedyRun
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore.training.local_training import Trained, read_other_images

POLICY: Final = "policy.json"
"""The kept file with the conditions that the trained model is judged by."""

_CONDITIONS: TypeAdapter[tuple[Condition, ...]] = TypeAdapter(tuple[Condition, ...])


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

    What is done is kept in `out`, so that a remedy that was interrupted at any moment goes on where it was, with the
    same numbers. In the end it holds `report.json`, and, if a candidate kept the accuracy, `model.safetensors`,
    `training.json` and `audit.json`.

    Args:
        failed: The report that failed, of one model.
        request: Labeled images to train on, and what may be tried.
        audited_images: The encoded images of that audit, in its order.
        out: Folder of the remedy.
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
    models = tuple((None, model.reference) for model in failed.audited_models)
    if images is None:
        images = read_other_images(request.images, models, access, field="images")
    if validation is None and not isinstance(request.validation, HeldOut):
        validation = read_other_images(request.validation, models, access, field="validation")
    conditions = tuple(policy) if policy is not None else policy_of(failed)
    folder = KeptFolder(out)
    run = RemedyRun(
        failed,
        request,
        training=images,
        validation=validation,
        audited=audited_images,
        policy=conditions,
        kept=folder,
        access=access.model_copy(update={"file_roots": (*access.file_roots, out.resolve())}),
        device=device,
        audit_id="remedied",
    )
    # with the digest of the report, the folder of a remedy of another report is another one
    keep_request(folder, request.model_copy(update={"report": sha256(report_bytes(failed))}), what="remedy")
    _keep_policy(folder, conditions)
    run_stages(run, remedy_stages(request.plan), progress)
    report = RemedyReport.model_validate_json(read_kept(folder, REPORT))
    trained = run.trained()
    if trained is None:
        return Remedy(report, None, None, None)
    return Remedy(report, trained, run.model(trained), read_report(read_kept(folder, AUDIT)))


def _keep_policy(folder: KeptFolder, conditions: tuple[Condition, ...]) -> None:
    """Keep the policy, which a request does not name.

    Raises:
        InvalidRequest: The remedy in the folder has begun with another one.
    """
    data = _CONDITIONS.dump_json(conditions, indent=2)
    known = folder.read(POLICY)
    if known is None:
        folder.keep(POLICY, data)
    elif _CONDITIONS.validate_json(known) != conditions:
        msg = f"the remedy in {folder.path} has begun with another policy; name an empty folder for this one"
        raise InvalidRequest(msg, field="policy")
