"""Everything that a client can do, written once: `AsyncClient` has these methods, `Client` blocks until they end."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from auditcore.client import calls
from auditcore.client.answers import (
    FINAL_STATES,
    AuditEvent,
    AuditStatus,
    Catalogue,
    EstimateAnswer,
    ExperimentFileEntry,
    ExperimentStatus,
    ImageBatch,
    JobState,
    JobStatus,
    PolicySummary,
    TrainingStatus,
)
from auditcore.client.calls import Jobs, ReportForm
from auditcore.client.composing import ImagesGiven, PlanGiven, PolicyGiven, compose
from auditcore.client.errors import (
    AnswerUnreadable,
    AuditCancelled,
    AuditFailed,
    ClientError,
    JobCancelled,
    JobFailed,
    WaitTimeout,
)
from auditcore.client.requesting import Requester
from auditcore.client.retries import is_passing
from auditcore.client.uploads import Annotation, Images, NamedImage, annotation_text, image_form, images_of
from auditcore.client.verification import Content, verify
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import AuditReport, Verdict
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.evidence.event_log import LogEntry

if TYPE_CHECKING:
    from auditcore.evidence.verification import Verification

J = TypeVar("J", bound=JobStatus)

FIRST_POLL_S: Final = 0.25
LONGEST_POLL_S: Final = 2.0
"""Bounds of the pause between two looks at a job. The service asks for the longer one; small jobs end sooner."""

PATIENCE_S: Final = 120.0
PATIENT_ATTEMPTS: Final = 30
"""How long, and how often, a job is asked for that has been there before: its service may be restarting."""

PAGE: Final = 100
"""Audits or policies on a page, the most that a service gives at a time."""

LOG_PAGE: Final = 1000
"""Entries of the event log on a page."""

RECONNECT_S: Final = 1.0
"""Pause before a stream of events that was lost is asked for again."""


class Operations:
    """What a service can be asked."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    @property
    def url(self) -> str:
        """Address of the service, without a slash at its end."""
        return self._requester.url

    async def upload(
        self,
        images: Images,
        *,
        labels: Annotation | None = None,
        boxes: Annotation | None = None,
        box_format: str | None = None,
        masks: Annotation | None = None,
        mask_files: Sequence[NamedImage] = (),
        annotations: Annotation | None = None,
        classes: Annotation | None = None,
    ) -> ImageBatch:
        """Store images as one batch, which a request names by its digest.

        The same images, labels and boxes always give the same digest, so an upload may be repeated.

        Args:
            images: Files, folders, and bytes of files: PNG, JPEG, WebP, BMP, TIFF, GIF, DICOM, .npy, or tensors in the
                safetensors format. A folder stands for the image files in it, by name.
            labels: Class of each image: a list with one entry per image in order, or file name -> entry. An entry is a
                class index, a list of them for a multi-label model, or None. Or the text of a CSV table.
            boxes: Where objects are, for the check `localization`: per image, a list of boxes [x0, y0, x1, y1] in
                pixels of the original image, from 0, ends excluded; or what `box_format` says.
            box_format: `xyxy` (default), `xywh`, `relative` or `yolo`.
            masks: Pixels of objects, for the same check: per image, a list of polygons [x0, y0, x1, y1, ...].
            mask_files: Masks as PNG files, named after their images.
            annotations: An annotation file of COCO, or a CSV table of file name and label.
            classes: Names of the model's classes in order, by which labels may name a class.

        Raises:
            InvalidArgument: A path does not exist, or a folder holds no image.
            Refused: The service cannot use them; `mistakes` say which and why.
        """
        texts = {
            "labels": annotation_text(labels),
            "boxes": annotation_text(boxes),
            "box_format": box_format,
            "masks": annotation_text(masks),
            "annotations": annotation_text(annotations),
            "classes": annotation_text(classes),
        }
        form = image_form(images_of(images), mask_files, texts=texts)
        return await self._requester.value_of(calls.upload_images(form))

    async def upload_maps(self, maps: Path | bytes) -> str:
        """Store heat maps that were made elsewhere; returns the digest that the explainer `precomputed` names.

        Args:
            maps: A safetensors file, or its bytes, with one tensor `maps` of (N,H,W) or (N,C,H,W) in the order of the
                images, and optionally `targets` of (N,).

        Raises:
            Refused: The service cannot use them.
        """
        return (await self._requester.value_of(calls.upload_maps(maps))).digest

    async def submit(
        self,
        request: AuditRequest | Mapping[str, object] | None = None,
        *,
        model: ModelReference | None = None,
        images: ImagesGiven | None = None,
        plan: PlanGiven | None = None,
        policy: PolicyGiven = (),
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> AuditStatus:
        """Submit an audit, and return as soon as the service has accepted it.

        A lost answer starts no second audit: the call carries an idempotency key, and repetitions get the first answer.

        Args:
            request: The whole request. A mapping is sent as it is, and checked by the service.
            model: In place of a request: the model under audit.
            images: The batch that `upload` has answered, or another reference to images.
            plan: A plan, or the name of a preset such as `quick`.
            policy: Conditions for a pass, a policy document, or the name and version of a policy such as
                `quick-look@1.0.0`; without any, the verdict is `not_evaluated`.
            name: What to call the audit in lists; with `request`, set it there.
            tags: Key -> value, to find the audit by; with `request`, set them there.
            idempotency_key: The same key with the same request gives the same audit for 24 hours, also from another
                process; a new one if None.

        Raises:
            InvalidArgument: A part is missing, or given twice; or the parts make no valid request.
            Refused: The service does not accept it; `mistakes` name fields and say how to fix them.
        """
        document = compose(request, model=model, images=images, plan=plan, policy=policy, name=name, tags=tags)
        call = calls.submit("audits", document, AuditStatus, idempotency_key=idempotency_key)
        return await self._requester.value_of(call)

    async def status(self, audit_id: str) -> AuditStatus:
        """Where an audit stands.

        Raises:
            NotFound: There is no such audit.
            Deleted: It was deleted.
        """
        return await self._requester.value_of(calls.status("audits", audit_id, AuditStatus))

    async def list(
        self,
        *,
        state: JobState | None = None,
        verdict: Verdict | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[AuditStatus, None]:
        """All audits, newest first; every filter that is given must hold. Pages are fetched when they are needed.

        Args:
            state: Only audits in this state.
            verdict: Only audits whose report has this verdict.
            name: Only audits of this name.
            tags: Only audits that have all these tags.
            model: Only audits of the model with this digest.
            created_after: Only audits that were submitted at this time or later; with a time zone.
            created_before: Only audits that were submitted before this time; with a time zone.
            limit: Most audits; all if None.

        Raises:
            Refused: A filter is not valid.
        """
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            call = calls.audit_page(
                cursor,
                limit=PAGE if left is None else min(PAGE, left),
                state=state,
                verdict=verdict,
                name=name,
                tags=tags,
                model=model,
                created_after=created_after,
                created_before=created_before,
            )
            page = await self._requester.value_of(call)
            for one in page.items:
                yield one
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def wait(
        self,
        audit_id: str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[AuditStatus], None] | None = None,
    ) -> AuditStatus:
        """Wait until an audit has succeeded; survives a restart of the service.

        An audit whose verdict is `fail` has succeeded too: there is a report.

        Args:
            audit_id: Its id.
            timeout: Most seconds to wait; no end if None.
            on_progress: Called with each status, first at once.

        Raises:
            AuditFailed: It failed; `code`, `reason` and `field` say why.
            AuditCancelled: It was cancelled.
            WaitTimeout: It has not ended in time; a `TimeoutError`. The audit goes on.
            NotFound: There is no such audit.
        """
        ended = await self._wait("audits", audit_id, AuditStatus, timeout, on_progress)
        return _succeeded("audit", ended, failed=AuditFailed, cancelled=AuditCancelled)

    async def events(self, audit_id: str, *, after: int | None = None) -> AsyncGenerator[AuditEvent, None]:
        """What happens to an audit, until the event that ends it.

        A connection that is lost is made again, and goes on after the last event that came.

        Args:
            audit_id: Its id.
            after: Number of the last event that is known; None to begin at the first.

        Raises:
            NotFound: There is no such audit.
            Unreachable: The service stays away.
        """
        path = calls.events_path(audit_id)
        failures = 0
        while True:
            seen = after
            try:
                async with self._requester.events(path, after=after) as stream:
                    async for sent in stream.events:
                        event = _event_of(sent.id, sent.event, sent.data, path)
                        after, failures = event.id, 0
                        yield event
                        if event.state in FINAL_STATES:
                            return
            except ClientError as error:
                failures += 1
                if failures >= PATIENT_ATTEMPTS or not is_passing(error, repeatable=True):
                    raise
            # a stream that ends in order and brings nothing new has nothing left to bring
            if after == seen and (await self.status(audit_id)).has_ended:
                return
            await self._requester.sender.sleep(RECONNECT_S)

    async def cancel(self, audit_id: str) -> AuditStatus:
        """Ask an audit to stop; one that has ended stays as it is.

        Raises:
            NotFound: There is no such audit.
        """
        return await self._requester.value_of(calls.cancel(audit_id))

    async def delete(self, audit_id: str) -> None:
        """Delete an audit that has ended: report, pictures, results and events. Evidence and event log stay.

        Raises:
            NotFound: There is no such audit.
            Refused: It has not ended (`audit_under_way`).
        """
        await self._requester.value_of(calls.delete(audit_id))

    async def report(self, audit_id: str) -> AuditReport:
        """The report of an audit that has succeeded.

        Raises:
            NotFound: There is none (yet).
            AnswerUnreadable: It is of a newer version than this auditcore can read.
        """
        return await self._requester.value_of(calls.report(audit_id))

    async def report_as(self, audit_id: str, form: ReportForm) -> bytes:
        """A report in one of its forms; `json` is byte for byte what evidence is about.

        Args:
            audit_id: Id of the audit.
            form: `json`, `html` for people, `junit` for build servers, `markdown` for merge requests, `ml-bom`
                (CycloneDX) or `model-index` (model card). For an audit that failed or was cancelled, `html`, `junit`
                and `markdown` say why there is no report.

        Raises:
            NotFound: There is none (yet).
        """
        return await self._requester.value_of(calls.report_as(audit_id, form))

    async def artifact(self, audit_id: str, digest: str) -> bytes:
        """The bytes of a picture: a photo as the model sees it, or heat maps.

        Args:
            audit_id: Id of the audit.
            digest: From `artifacts` of its report.

        Raises:
            NotFound: The report lists no such picture.
        """
        return await self._requester.value_of(calls.file_of("audits", audit_id, "artifacts", digest))

    async def evidence(self, audit_id: str) -> bytes:
        """The signed evidence of a finished audit, a DSSE envelope in JSON, to keep beside the report.

        Raises:
            NotFound: There is none, since the audit has not ended or the service has no key to sign with.
        """
        return await self._requester.value_of(calls.file_of("audits", audit_id, "evidence"))

    async def verify(self, audit_id: str, *, keys: Sequence[Content]) -> Verification:
        """Fetch report and evidence of an audit, and verify them here. Needs the extra `evidence`.

        `auditcore.client.verify` does the same with files, without a service.

        Args:
            audit_id: Its id.
            keys: Public keys in PEM that you trust, or their files. Get them from the operator, not from the service.

        Returns:
            What was found; `findings` is empty if everything holds.

        Raises:
            ExtraMissing: The extra `evidence` is not installed.
            InvalidArgument: No key is given, or one cannot be read.
            NotFound: There is no report or no evidence.
        """
        return verify(await self.report_as(audit_id, "json"), await self.evidence(audit_id), keys=keys)

    async def estimate(
        self,
        request: AuditRequest | Mapping[str, object] | None = None,
        *,
        model: ModelReference | None = None,
        images: ImagesGiven | None = None,
        plan: PlanGiven | None = None,
    ) -> EstimateAnswer:
        """What an audit would cost, in passes and seconds. Nothing is stored or run.

        Args:
            request: The whole request.
            model: In place of a request: the model under audit.
            images: The batch that `upload` has answered, or another reference to images.
            plan: A plan, or the name of a preset such as `quick`.

        Raises:
            InvalidArgument: A part is missing, or given twice.
            Refused: The request is not valid.
        """
        document = compose(request, model=model, images=images, plan=plan)
        return await self._requester.value_of(calls.estimate(document))

    async def inspect(
        self, model: ModelReference | InspectionRequest | Mapping[str, object], *, timeout: float = 60.0
    ) -> Inspection:
        """Which explainers and checks will run on a model, and why the others will not.

        Args:
            model: The model, or a request with a plan too. A mapping is the body of the request, and is sent as it is.
            timeout: Most seconds to wait for a worker that loads the model; the answer is then not `complete`.

        Raises:
            Refused: The model cannot be used.
        """
        request = model if isinstance(model, InspectionRequest | Mapping) else InspectionRequest(model=model)
        call = calls.inspect(request)
        deadline = time.monotonic() + timeout
        pause = FIRST_POLL_S
        found = await self._requester.value_of(call)
        while not found.complete and time.monotonic() < deadline:
            await self._requester.sender.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_S)
            found = await self._requester.again(call)
        return found

    async def catalogue(self) -> Catalogue:
        """Every explainer, check, augmentation, preset and metric that the service knows."""
        return await self._requester.value_of(calls.catalogue())

    async def policies(self) -> AsyncGenerator[PolicySummary, None]:
        """All policies that a request may name, newest first; those that come with auditcore are last."""
        cursor: str | None = None
        while True:
            page = await self._requester.value_of(calls.policy_page(cursor, limit=PAGE))
            for one in page.items:
                yield one
            cursor = page.next_cursor
            if cursor is None:
                return

    async def policy(self, reference: str) -> PolicyDocument:
        """A policy.

        Args:
            reference: Its digest, or its name and version, such as `pre-deployment@1.0.0`.

        Raises:
            NotFound: There is no such policy.
        """
        return await self._requester.value_of(calls.policy(reference))

    async def log(self, *, after: int = 0) -> AsyncGenerator[LogEntry, None]:
        """All entries of the event log, oldest first.

        Args:
            after: Number of the last entry that is known.

        Raises:
            ScopeMissing: The credentials do not have the scope `log:read`.
        """
        following: int | None = after
        while following is not None:
            page = await self._requester.value_of(calls.log_page(following, limit=LOG_PAGE))
            for one in page.items:
                yield one
            following = page.next_after

    async def submit_training(
        self, request: TrainingRequest | Mapping[str, object], *, idempotency_key: str | None = None
    ) -> TrainingStatus:
        """Submit a training.

        Args:
            request: The request. A mapping is sent as it is, and checked by the service.
            idempotency_key: As for `submit`.

        Raises:
            Refused: The service does not accept it; `mistakes` name fields and say how to fix them.
        """
        call = calls.submit("trainings", request, TrainingStatus, idempotency_key=idempotency_key)
        return await self._requester.value_of(call)

    async def wait_for_training(
        self,
        training_id: str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[TrainingStatus], None] | None = None,
    ) -> TrainingStatus:
        """Wait until a training has succeeded.

        Args:
            training_id: Its id.
            timeout: Most seconds to wait; no end if None.
            on_progress: Called with each status, first at once.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            WaitTimeout: It has not ended in time. It goes on.
        """
        ended = await self._wait("trainings", training_id, TrainingStatus, timeout, on_progress)
        return _succeeded("training", ended)

    async def training_report(self, training_id: str) -> TrainingReport:
        """The report of a training that has succeeded.

        Raises:
            NotFound: There is none (yet).
        """
        return await self._requester.value_of(calls.training_report(training_id))

    async def trained_weights(self, training_id: str) -> bytes:
        """The weights of a training that has succeeded: a file of safetensors.

        Raises:
            NotFound: There are none (yet).
        """
        return await self._requester.value_of(calls.file_of("trainings", training_id, "weights"))

    async def submit_experiment(
        self, request: Mapping[str, object], *, idempotency_key: str | None = None
    ) -> ExperimentStatus:
        """Submit a study, a remedy or a measure that retrains.

        Args:
            request: The request as JSON, which the service checks.
            idempotency_key: As for `submit`.

        Raises:
            Refused: The service does not accept it; `mistakes` name fields and say how to fix them.
        """
        call = calls.submit("experiments", request, ExperimentStatus, idempotency_key=idempotency_key)
        return await self._requester.value_of(call)

    async def wait_for_experiment(
        self,
        experiment_id: str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[ExperimentStatus], None] | None = None,
    ) -> ExperimentStatus:
        """Wait until an experiment has succeeded.

        Args:
            experiment_id: Its id.
            timeout: Most seconds to wait; no end if None.
            on_progress: Called with each status, first at once.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            WaitTimeout: It has not ended in time. It goes on.
        """
        ended = await self._wait("experiments", experiment_id, ExperimentStatus, timeout, on_progress)
        return _succeeded("experiment", ended)

    async def experiment_files(self, experiment_id: str) -> tuple[ExperimentFileEntry, ...]:
        """Name and digest of each file that an experiment has kept.

        Raises:
            NotFound: There is no such experiment.
        """
        return (await self._requester.value_of(calls.experiment_files(experiment_id))).items

    async def experiment_file(self, experiment_id: str, name: str) -> bytes:
        """The bytes of a file that an experiment has kept, such as `report.json`.

        Raises:
            NotFound: There is none of this name.
        """
        return await self._requester.value_of(calls.file_of("experiments", experiment_id, "files", name))

    async def _wait(
        self, jobs: Jobs, job_id: str, kind: type[J], timeout: float | None, on_progress: Callable[[J], None] | None
    ) -> J:
        """The status of a job that has ended."""
        call = calls.status(jobs, job_id, kind)
        patient = replace(self._requester.retries, attempts=PATIENT_ATTEMPTS, deadline_s=PATIENCE_S)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_POLL_S
        found = await self._requester.value_of(call)
        while True:
            if on_progress is not None:
                on_progress(found)
            if found.has_ended:
                return found
            left = None if deadline is None else deadline - time.monotonic()
            if timeout is not None and left is not None and left <= 0:
                raise WaitTimeout(jobs.removesuffix("s"), job_id, timeout)
            await self._requester.sender.sleep(pause if left is None else min(pause, left))
            pause = min(1.5 * pause, LONGEST_POLL_S)
            found = await self._requester.again(call, retries=patient)


def _succeeded(
    what: str, ended: J, *, failed: type[JobFailed] = JobFailed, cancelled: type[JobCancelled] = JobCancelled
) -> J:
    """The status of a job, if it has succeeded.

    Raises:
        JobFailed: It failed.
        JobCancelled: It was cancelled.
    """
    if ended.state == "cancelled":
        raise cancelled(what, ended.id)
    if ended.error is not None:
        error = ended.error
        raise failed(what, ended.id, code=error.code, reason=error.message, field=error.field)
    return ended


def _event_of(number: str, kind: str, data: str, path: str) -> AuditEvent:
    try:
        return AuditEvent.model_validate({"id": number, "kind": kind, **json.loads(data)})
    except (ValueError, TypeError) as error:
        message = f"an event of {path} cannot be read ({error}); use the version of auditcore that the service has"
        raise AnswerUnreadable(message) from error
