"""Every check that an experiment passes before it is accepted, and its price. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.images import ImageBatchReference, ImagesReference, labels_of
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.remedies.failed_conditions import condition_to_remedy
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.studies.plan import StudyMethod, StudyRequest
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.label_rules import require_different_labels
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import HeldOut
from auditcore.contracts.training.trainable_models import require_scores, require_trainable
from auditcore.costs.cost_model import Estimate
from auditcore.errors import InputError, InvalidRequest, UnreachableResource
from auditcore.sources.resolving import resolve_model
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.audits import find_audit
from auditcore_service.store.batches import batch_size, frozen_images
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.records import Audit
from auditcore_service.use_cases.audit_ids import is_audit_id
from auditcore_service.use_cases.deleted_objects import missing_batch
from auditcore_service.use_cases.experiment_estimates import ImageCounts, experiment_estimate
from auditcore_service.use_cases.experiment_shards import ExperimentSets
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.labeled_sets import (
    LabeledSet,
    LabeledSets,
    count_held_out,
    naming,
    require_labels,
    scores_of,
)
from auditcore_service.use_cases.prepared_trainings import objection_to_training


@final
@dataclass(frozen=True)
class PreparedExperiment:
    """An experiment that can be carried out, as far as that is known without its images and its model.

    Attributes:
        request: The request, about models as they are now and files of tensors as they are now.
        sets: What is known of its images.
        estimate: What it is expected to cost.
        objection: Why the operator's budget forbids this price, and what to reduce; None if it does not.
        model: The model of a remedy, as the failed report names it; None for other experiments.
        fetched: Position of an audited image of a remedy -> digest of the bytes that the audit has fetched.
    """

    request: ExperimentRequest
    sets: ExperimentSets
    estimate: Estimate
    objection: str | None
    model: ModelReference | None
    fetched: dict[int, str]


@final
@dataclass(frozen=True)
class _Failed:
    """The failed audit of a remedy.

    Attributes:
        audit: As it is stored.
        report: Its report.
        model: The audited model.
        images: Where its images are.
    """

    audit: Audit
    report: AuditReport
    model: ModelReference
    images: ImagesReference


@final
@dataclass(frozen=True)
class _AskedImages:
    """The images of one reference and the models that see them; an `AsksForImages`."""

    images: ImagesReference
    references: tuple[tuple[str | None, ModelReference], ...]


@final
class PreparedExperiments:
    """Checks and prices."""

    def __init__(self, settings: Settings, *, database: Database, blobs: BlobStore, batches: ImageBatches) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._sets = LabeledSets(settings, database=database, batches=batches)

    def prepare(self, principal: Principal, request: ExperimentRequest) -> PreparedExperiment:
        """Check an experiment and price it.

        Raises:
            InputError: It cannot be carried out.
            InvalidUpload: An inline image is empty.
        """
        failed = self._failed(principal, request) if isinstance(request, RemedyRequest) else None
        self._check_explainers(request)
        if isinstance(request, RemedyRequest):
            assert failed is not None  # noqa: S101 - it was looked up above
            request = request.model_copy(update={"report": failed.audit.report_digest})
            models: tuple[ModelReference, ...] = (failed.model,)
        else:
            request, models = self._with_pinned_models(request)
        training = self._labeled(principal, models, request.images, field="images")
        require_different_labels(labels_of(label) for label in training.labels)
        changes: dict[str, object] = {"images": training.reference}
        validation = None
        if isinstance(request.validation, HeldOut):
            held_out = count_held_out(training, request.validation)
            counts = ImageCounts(len(training) - held_out, held_out, 0)
        else:
            validation = self._labeled(principal, models, request.validation, field="validation")
            changes["validation"] = validation.reference
            counts = ImageCounts(len(training), len(validation), 0)
        if isinstance(request, StudyRequest):
            test = self._labeled(principal, models, request.test, field="test")
            _require_apart(test.digests, training, what="test images", of="training", field="test")
            if validation is not None:
                _require_apart(test.digests, validation, what="test images", of="training", field="test")
            changes["test"] = test.reference
            counts = replace(counts, test=len(test))
        if failed is not None:
            counts = replace(counts, test=failed.audit.images)
            audited = _digests_of(failed.report)
            _require_apart(audited, training, what="training images", of="audit", field="images")
            if validation is not None:
                _require_apart(audited, validation, what="validation images", of="audit", field="validation")
        estimate = experiment_estimate(
            request,
            models[0],
            counts,
            passes_per_s=self._settings.passes_per_s,
            failed=None if failed is None else failed.report,
        )
        return PreparedExperiment(
            request=request.model_copy(update=changes),
            sets=ExperimentSets(
                training=len(training),
                validation=0 if validation is None else len(validation),
                test=counts.test,
                audited=None if failed is None else failed.images,
            ),
            estimate=estimate,
            objection=objection_to_training(estimate, self._settings, kind="experiment"),
            model=None if failed is None else failed.model,
            fetched={} if failed is None else self._fetched(principal, failed.audit),
        )

    def _labeled(
        self, principal: Principal, models: tuple[ModelReference, ...], images: ImagesReference, *, field: str
    ) -> LabeledSet:
        """The images of one field, each with a label that every model can learn."""
        references = tuple((None, model) for model in models)
        with naming(field):
            found = self._sets.find(principal, _AskedImages(images=images, references=references), images)
        for _, model in references:
            require_labels(found, model, field=field)
        return found

    def _with_pinned_models(
        self, request: StudyRequest | RoarRequest | FFidelityRequest | IdsdsRequest
    ) -> tuple[ExperimentRequest, tuple[ModelReference, ...]]:
        """The request about models as they are now, and these models, the main one first."""
        model = self._pinned(request.model)
        if isinstance(request, StudyRequest):
            methods: list[StudyMethod] = []
            for number, method in enumerate(request.plan.methods):
                own = None
                if method.model is not None:
                    with _inside(f"plan.methods.{number}"):
                        own = self._pinned(method.model)
                with _inside(f"plan.methods.{number}"):
                    require_scores(method.plan.method, scores_of(own or model))
                methods.append(method.model_copy(update={"model": own}))
            plan = request.plan.model_copy(update={"methods": tuple(methods)})
            own_models = tuple(method.model for method in methods if method.model is not None)
            return request.model_copy(update={"model": model, "plan": plan}), (model, *own_models)
        if request.plan.training is not None:
            with _inside("plan", "plan.training"):
                require_scores(request.plan.training.method, scores_of(model))
        return request.model_copy(update={"model": model}), (model,)

    def _pinned(self, model: ModelReference) -> ModelReference:
        require_trainable(model)
        return resolve_model(model, self._settings.access).reference

    def _check_explainers(self, request: ExperimentRequest) -> None:
        """Refuse functions and servers that the operator does not allow, and maps that are of other models."""
        match request:
            case StudyRequest(plan=plan):
                for number, method in enumerate(plan.methods):
                    with _inside(f"plan.methods.{number}"):
                        check_training_explainers(method.plan, self._settings.access)
                self._check(plan.audit.explainers, field="plan.audit.explainers")
                for number, explainer in enumerate(plan.audit.explainers):
                    if explainer.uploaded_maps is not None:
                        msg = (
                            f"explainer {explainer.label!r} has uploaded maps, which are not of the models that a "
                            "study trains; take one that computes its maps, such as grad_cam"
                        )
                        raise InvalidRequest(msg, field=f"plan.audit.explainers.{number}")
            case RoarRequest() | FFidelityRequest() | IdsdsRequest():
                training: TrainingPlan | None = request.plan.training
                if training is not None:
                    with _inside("plan", "plan.training"):
                        check_training_explainers(training, self._settings.access)
                self._check(request.plan.explainers, field="plan.explainers")
            case RemedyRequest():
                # its explainer is that of the failed audit, which was allowed
                pass

    def _check(self, explainers: Iterable[Explainer], *, field: str) -> None:
        with _inside("plan.explainers", field):
            self._settings.access.check_explainers(explainers)

    def _failed(self, principal: Principal, request: RemedyRequest) -> _Failed:
        """The audit that a remedy is about.

        Raises:
            InputError: There is none, it has no report, or training cannot reach what its policy missed.
        """
        from auditcore.report.reading import read_report  # noqa: PLC0415 - most requests have no report

        wanted = request.audit
        if wanted is None:
            msg = "say which audit is to be remedied: give the id of a finished audit"
            raise InvalidRequest(msg, field="audit")
        audit = None
        if is_audit_id(wanted):
            with self._database.reading(principal.tenant) as connection:
                audit = find_audit(connection, wanted)
        if audit is None:
            msg = f"there is no audit {wanted!r}; take the id from GET /v1/audits"
            raise InvalidRequest(msg, field="audit")
        if audit.report_digest is None:
            msg = f"audit {wanted} is {audit.state} and has no report; use an audit whose state is `succeeded`"
            raise InvalidRequest(msg, field="audit")
        if request.report is not None and request.report != audit.report_digest:
            msg = f"the report of audit {wanted} is {audit.report_digest}, not {request.report}; leave `report` out"
            raise InvalidRequest(msg, field="report")
        try:
            report = read_report(self._blobs.of(principal.tenant).get(audit.report_digest, field="audit"))
        except (UnreachableResource, ValueError) as error:
            msg = f"the report of audit {wanted} cannot be read; audit the model again"
            raise InvalidRequest(msg, field="audit") from error
        try:
            condition_to_remedy(report, request.plan.condition)
        except InvalidRequest as error:
            if error.field == "report":
                error.field = "audit"
            raise
        (model,) = report.audited_models
        try:
            reference = self._pinned(model.reference)
        except InputError as error:
            error.field = "audit"
            raise
        return _Failed(audit, report, reference, self._audited(principal, audit))

    def _audited(self, principal: Principal, audit: Audit) -> ImagesReference:
        """Where the images of an audit are.

        Raises:
            InvalidRequest: They were deleted.
        """
        images = AuditRequest.model_validate_json(audit.request).images
        if isinstance(images, ImageBatchReference):
            with self._database.reading(principal.tenant) as connection:
                if batch_size(connection, images.digest) is None:
                    msg = (
                        f"the images of audit {audit.id} are gone ({missing_batch(connection, images.digest).message})"
                    )
                    raise InvalidRequest(msg, field="audit")
        return images

    def _fetched(self, principal: Principal, audit: Audit) -> dict[int, str]:
        with self._database.reading(principal.tenant) as connection:
            return frozen_images(connection, audit.id)


def _digests_of(report: AuditReport) -> list[str | None]:
    """The digest of each image that an audit has read; None for one that could not be read."""
    return [*(one.digest for one in report.images.items), *(one.digest for one in report.images.excluded)]


def _require_apart(others: Iterable[str | None], images: LabeledSet, *, what: str, of: str, field: str) -> None:
    """Refuse images that are in both sets, as far as digests are known; a worker compares the rest.

    Args:
        others: Digests of the other set.
        images: One set.
        what: What the images of `field` are.
        of: Whose images they must not be.
        field: The field to blame.

    Raises:
        InvalidRequest: An image is in both.
    """
    known = {digest for digest in others if digest is not None}
    both = [number for number, digest in enumerate(images.digests) if digest in known]
    if both:
        called = images.names[both[0]] or f"number {both[0]}"
        msg = f"{len(both)} {what} are images of the {of}, such as {called}; take others"
        raise InvalidRequest(msg, field=field)


@contextmanager
def _inside(place: str, instead: str | None = None) -> Iterator[None]:
    """Let errors name a field by its place in the whole request.

    Args:
        place: Where the part stands that is checked; with `instead`, what the field begins with.
        instead: With what it has to begin.
    """
    try:
        yield
    except InputError as error:
        if instead is None:
            error.field = f"{place}.{error.field}"
        elif error.field == place or error.field.startswith(f"{place}."):
            error.field = instead + error.field[len(place) :]
        raise
