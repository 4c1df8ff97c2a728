"""The stages of a remedy: search, train, audit again with the same plan and policy, compare.

The model that failed is never replaced: the result is another file of weights and a report on both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, final

import torch

from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT, WEIGHTS, Stage
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.policy import Condition
from auditcore.contracts.remedies.failed_conditions import condition_to_remedy, policy_of
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.remedies.search import RemedyStart, probe_of, training_plan
from auditcore.contracts.remedies.stages import remedy_stages, search_stage
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles, read_kept
from auditcore.models.loading import load_classifier
from auditcore.remedies.remedy_results import Remedied, Search, remedy_report, searched, value_of
from auditcore.report.baseline import digests_of, require_comparable
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore.sources.resolving import resolve_model
from auditcore.training.evaluation import measure_explanations, validate
from auditcore.training.kept_training import checkpoint_name, read_trained, report_name, train_in_parts, weights_name
from auditcore.training.local_training import Trained, prepare_local_training, training_sets
from auditcore.training.network import Network
from auditcore.training.results import trained_reference

START: Final = "start.json"
TRAINING: Final = "training.json"
"""The kept file with the report of the chosen training."""
AUDIT: Final = "audit.json"
"""The kept file with the report of the audit of the trained model."""


@final
class RemedyRun:
    """A remedy whose images are at hand; see `experiments.running.StagedRun`.

    Kept are `start.json`, `trainings/search-N.json` of every learning rate, and, if a candidate kept the accuracy,
    its weights, `training.json` and `audit.json`; in the end `report.json`.

    Attributes:
        failed: The report that failed.
        condition: What is to be remedied.
    """

    def __init__(
        self,
        failed: AuditReport,
        request: RemedyRequest,
        *,
        training: Sequence[EncodedImage],
        validation: Sequence[EncodedImage] | None,
        audited: Sequence[EncodedImage],
        policy: Sequence[Condition] | None = None,
        kept: KeptFiles,
        access: AccessRules,
        device: torch.device | str,
        audit_id: str,
    ) -> None:
        """Prepare to run stages; nothing is computed yet.

        Args:
            failed: The report that failed, of one model.
            request: What may be tried.
            training: Encoded training images.
            validation: Encoded validation images; None to hold some of the others out.
            audited: The encoded images of the failed audit, in its order.
            policy: The conditions; those that the report has judged if None.
            kept: Files of this remedy.
            access: What models may reach, kept weights among it.
            device: Where the model is trained and audited.
            audit_id: Name of the audit of the trained model.

        Raises:
            InputError: The report has nothing that training can reach, or an input cannot be used; `field` says which.
        """
        self.failed = failed
        self.condition = condition_to_remedy(failed, request.plan.condition)
        digest = sha256(report_bytes(failed))
        if request.report not in {None, digest}:
            msg = f"the request is about report {request.report}, and the given one is {digest}; give the one it names"
            raise InvalidRequest(msg, field="report")
        (model,) = failed.audited_models
        require_trainable(model.reference)
        require_comparable(failed, models=[None], images=[image.digest for image in audited])
        _require_apart(failed, training, use="training", field="images")
        _require_apart(failed, validation or (), use="validation", field="validation")
        self._request = request.model_copy(update={"report": digest})
        self._reference = resolve_model(model.reference, access).reference
        self._training, self._validation, self._audited = training, validation, audited
        self._policy = tuple(policy) if policy is not None else policy_of(failed)
        self._kept, self._access, self._device, self._audit_id = kept, access, device, audit_id
        start, *searches, train, audited_again, report = remedy_stages(request.plan)
        self._chosen_name = train.name
        self._work: dict[str, Callable[..., None]] = {
            start.name: self._measure_start,
            **{stage.name: functools.partial(self._try, number) for number, stage in enumerate(searches)},
            train.name: self._train_chosen,
            audited_again.name: self._audit,
            report.name: self._report,
        }

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage, or go on with it; nothing happens if it is done. Only the report is always made again.

        Args:
            stage: One of `remedy_stages`; all of earlier waves are done.
            progress: Called with the share of the stage that is done, in [0,1]; may raise AuditCancelled.
            enough: Asked now and then; once it says so, what is done is kept and WorkInterrupted raised.

        Raises:
            InputError: The remedy cannot be carried out.
            WorkInterrupted: It was enough for now.
        """
        self._work[stage.name](progress=progress, enough=enough)

    def trained(self) -> Trained | None:
        """The trained model; None if nothing was chosen, or if it is not trained yet."""
        report, weights = self._kept.read(TRAINING), self._kept.read(WEIGHTS)
        if report is None or weights is None:
            return None
        found = Trained(TrainingReport.model_validate_json(report), weights)
        return found if sha256(weights) == found.report.trained.weights else None

    def model(self, trained: Trained) -> BuiltModel:
        """How an audit names the trained model, by its kept weights."""
        return trained_reference(self._reference, trained.report.trained.weights, uri=self._kept.uri(WEIGHTS))

    def _measure_start(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:  # noqa: ARG002 - it is short
        """Score and failed metric of the audited model on the validation images."""
        if self._kept.read(START) is not None:
            return
        wanted = self._wanted(training_plan(self._request.plan, self.condition, self.failed, rate=1.0, epochs=1))
        limits = self._access.limits
        start = load_classifier(self._reference, access=self._access, device=self._device)
        sets = training_sets(wanted, start, self._training, self._validation, limits)
        ledger = start.ledger
        before = (ledger.forward_images, ledger.backward_images)
        network = Network(start)
        probe = probe_of(self._request.plan, self.condition, self.failed)
        measured = measure_explanations(network, sets.validation, probe, self._reference, limits)
        found = RemedyStart(
            score=validate(network, sets.validation).score,
            value=value_of(measured, self.condition),
            forward_images=ledger.forward_images - before[0],
            backward_images=ledger.backward_images - before[1],
        )
        self._kept.keep(START, found.model_dump_json(indent=2).encode())

    def _try(self, number: int, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Train with one learning rate. Only its report is needed afterwards."""
        name, plan = search_stage(number), self._request.plan
        if self._kept.read(report_name(name)) is None:
            self._train(name, rate=plan.learning_rates[number], epochs=max(plan.epochs), told=progress, enough=enough)
        self._kept.forget(weights_name(name))
        self._kept.forget(checkpoint_name(name))

    def _train_chosen(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Train the chosen candidate, if there is one."""
        chosen, name = self._search().chosen, self._chosen_name
        if chosen is None:
            return
        if self.trained() is None:
            trained = read_trained(self._kept, name) or self._train(
                name, rate=chosen.learning_rate, epochs=chosen.epochs, told=progress, enough=enough
            )
            self._kept.keep(WEIGHTS, trained.weights)
            self._kept.keep(TRAINING, trained.report.model_dump_json(indent=2).encode())
        # they have the names of a result now
        self._kept.forget(weights_name(name))
        self._kept.forget(report_name(name))
        self._kept.forget(checkpoint_name(name))

    def _train(
        self, name: str, *, rate: float, epochs: int, told: Callable[[float], None], enough: Callable[[], bool]
    ) -> Trained:
        prepared = prepare_local_training(
            self._wanted(training_plan(self._request.plan, self.condition, self.failed, rate=rate, epochs=epochs)),
            images=self._training,
            validation=self._validation,
            access=self._access,
            device=self._device,
        )
        return train_in_parts(prepared, self._kept, name, progress=told, enough=enough)

    def _wanted(self, plan: TrainingPlan) -> TrainingRequest:
        return TrainingRequest(
            model=self._reference, images=self._request.images, validation=self._request.validation, plan=plan
        )

    def _audit(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Audit the trained model, if there is one, by the plan and the policy of the audit that failed."""
        if self._search().chosen is None or self._kept.read(AUDIT) is not None:
            return
        report = audit(
            AuditRequest(
                model=self.model(self._required()),
                # the images themselves are given
                images=ImageBatchReference(digest=sha256(b"")),
                plan=self.failed.plan,
                policy=self._policy,
            ),
            images=self._audited,
            access=self._access,
            device=self._device,
            progress=progress,
            audit_id=self._audit_id,
            kept=self._kept,
            enough=enough,
        )
        self._kept.keep(AUDIT, report_bytes(report))

    def _report(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:  # noqa: ARG002 - it takes no time
        search = self._search()
        remedied = None
        if search.chosen is not None:
            training, again = read_kept(self._kept, TRAINING), read_kept(self._kept, AUDIT)
            remedied = Remedied(
                training=TrainingReport.model_validate_json(training),
                training_digest=sha256(training),
                audit=read_report(again),
                audit_digest=sha256(again),
            )
        report = remedy_report(self._request, self.failed, self.condition, search, remedied)
        self._kept.keep(REPORT, report.model_dump_json(indent=2).encode())

    def _search(self) -> Search:
        """What was tried, and what is chosen of it."""
        rates = range(len(self._request.plan.learning_rates))
        return searched(
            self._request.plan,
            self.condition,
            RemedyStart.model_validate_json(read_kept(self._kept, START)),
            [
                TrainingReport.model_validate_json(read_kept(self._kept, report_name(search_stage(number))))
                for number in rates
            ],
        )

    def _required(self) -> Trained:
        trained = self.trained()
        if trained is None:
            msg = f"{WEIGHTS} was kept by an earlier stage and is gone or damaged; begin anew"
            raise InvalidRequest(msg, field="out")
        return trained


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
