"""The stages of a study: train a method with a seed, audit the models of a seed together, compare all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import final

import torch

from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import Seed
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.studies.plan import StudyMethod, StudyRequest
from auditcore.contracts.studies.report import StudiedModel
from auditcore.contracts.studies.stages import audit_stage, study_stages, training_stage
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles, read_kept
from auditcore.models.loading import load_classifier
from auditcore.report.model_names import architecture_of
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore.studies.study_results import study_report
from auditcore.studies.tables import in_markdown, study_tables
from auditcore.training.evaluation import predicted, score
from auditcore.training.kept_training import checkpoint_name, read_trained, report_name, train_in_parts, weights_name
from auditcore.training.labeled_images import read_labeled
from auditcore.training.local_training import Trained, prepare_local_training
from auditcore.training.results import trained_reference

TABLES = "tables.md"
"""The kept file with the tables of the report."""


@final
class StudyRun:
    """A study whose images are at hand; see `experiments.running.StagedRun`.

    Kept are, of every training, `weights/METHOD-SEED.safetensors`, `trainings/METHOD-SEED.json` and
    `models/METHOD-SEED.json`; `audits/SEED.json` of every audit; and in the end `report.json` and `tables.md`.
    """

    def __init__(
        self,
        request: StudyRequest,
        *,
        training: Sequence[EncodedImage],
        validation: Sequence[EncodedImage] | None,
        test: Sequence[EncodedImage],
        kept: KeptFiles,
        access: AccessRules,
        device: torch.device | str,
    ) -> None:
        """Prepare to run stages; nothing is computed yet.

        Args:
            request: With pinned models.
            training: Encoded training images.
            validation: Encoded validation images; None to hold some of the others out.
            test: Encoded test images.
            kept: Files of this study.
            access: What models may reach, kept weights among it.
            device: Where models are trained and audited.

        Raises:
            InvalidRequest: A test image is an image of the training.
        """
        _require_apart(test, (*training, *(validation or ())))
        self._request = request
        self._training, self._validation, self._test = training, validation, test
        self._kept, self._access, self._device = kept, access, device
        self._work: dict[str, Callable[..., None]] = {
            **{
                training_stage(method.name, seed): functools.partial(self._train, method, seed)
                for method in request.plan.methods
                for seed in request.plan.seeds
            },
            **{audit_stage(seed): functools.partial(self._audit, seed) for seed in request.plan.seeds},
            study_stages(request.plan)[-1].name: self._report,
        }

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage, or go on with it; nothing happens if it is done. Only the report is always made again.

        Args:
            stage: One of `study_stages`; all of earlier waves are done.
            progress: Called with the share of the stage that is done, in [0,1]; may raise AuditCancelled.
            enough: Asked now and then; once it says so, what is done is kept and WorkInterrupted raised.

        Raises:
            InputError: The study cannot be carried out.
            WorkInterrupted: It was enough for now.
        """
        self._work[stage.name](progress=progress, enough=enough)

    def _train(
        self, method: StudyMethod, seed: Seed, *, progress: Callable[[float], None], enough: Callable[[], bool]
    ) -> None:
        name = training_stage(method.name, seed)
        trained = read_trained(self._kept, name)
        if trained is not None and self._kept.read(_model_name(name)) is not None:
            return
        if trained is None:
            wanted = TrainingRequest(
                model=self._start(method, seed),
                images=self._request.images,
                validation=self._request.validation,
                plan=method.plan.model_copy(update={"seed": seed}),
                name=f"{method.name}, seed {seed}",
            )
            prepared = prepare_local_training(
                wanted, images=self._training, validation=self._validation, access=self._access, device=self._device
            )
            trained = train_in_parts(prepared, self._kept, name, progress=progress, enough=enough)
        else:
            self._kept.forget(checkpoint_name(name))
        studied = self._studied(method, seed, trained)
        self._kept.keep(_model_name(name), studied.model_dump_json(indent=2).encode())

    def _start(self, method: StudyMethod, seed: Seed) -> ModelReference:
        """The model that a method starts from with a seed; random weights are drawn with that seed."""
        if method.continues is not None:
            return self._trained_model(training_stage(method.continues, seed))
        model = method.model or self._request.model
        if isinstance(model, DemoModel) or not model.weights.uri.startswith("random:"):  # type: ignore[union-attr]  # trainable kinds have weights
            return model
        weights = model.weights.model_copy(update={"uri": f"random:{seed}"})  # type: ignore[union-attr]
        return model.model_copy(update={"weights": weights})

    def _trained_model(self, name: str) -> BuiltModel:
        """A trained model, by its kept weights."""
        report = TrainingReport.model_validate_json(read_kept(self._kept, report_name(name)))
        weights = weights_name(name)
        try:
            uri = self._kept.uri(weights)
        except KeyError as error:
            msg = f"{weights} was kept by an earlier stage and is gone; begin anew"
            raise InvalidRequest(msg, field="out") from error
        return trained_reference(report.request.model, report.trained.weights, uri=uri)

    def _studied(self, method: StudyMethod, seed: Seed, trained: Trained) -> StudiedModel:
        name, report = training_stage(method.name, seed), trained.report
        reference = self._trained_model(name)
        classifier = load_classifier(reference, access=self._access, device=self._device)
        before = classifier.ledger.forward_images
        test, _ = read_labeled(self._test, use="validation", model=classifier, limits=self._access.limits)
        logits = predicted(classifier, test)
        return StudiedModel(
            method=method.name,
            seed=seed,
            architecture=architecture_of(reference, report.trained.record.structure),
            weights=report.trained.weights,
            training_report=sha256(read_kept(self._kept, report_name(name))),
            accuracy=score(logits, test.truth.to(logits.device), classifier.scores),
            test_images=len(test),
            forward_images=report.cost.forward_images + classifier.ledger.forward_images - before,
            backward_images=report.cost.backward_images,
            seconds=report.cost.seconds,
        )

    def _audit(self, seed: Seed, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        if self._kept.read(_audit_name(seed)) is not None:
            return
        plan = self._request.plan
        models = tuple(
            NamedModel(name=method.name, model=self._trained_model(training_stage(method.name, seed)))
            for method in plan.methods
        )
        report = audit(
            # the images themselves are given
            AuditRequest(models=models, images=ImageBatchReference(digest=sha256(b"")), plan=plan.audit),
            images=self._test[: plan.audit_images],
            access=self._access,
            device=self._device,
            progress=progress,
            audit_id=f"seed-{seed}",
            kept=self._kept,
            kept_as=f"seed-{seed}",
            enough=enough,
        )
        self._kept.keep(_audit_name(seed), report_bytes(report))

    def _report(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:  # noqa: ARG002 - it takes no time
        plan = self._request.plan
        models = [
            StudiedModel.model_validate_json(read_kept(self._kept, _model_name(training_stage(method.name, seed))))
            for seed in plan.seeds
            for method in plan.methods
        ]
        audits = {seed: read_kept(self._kept, _audit_name(seed)) for seed in plan.seeds}
        report = study_report(
            self._request,
            models,
            {seed: read_report(data) for seed, data in audits.items()},
            {seed: sha256(data) for seed, data in audits.items()},
        )
        self._kept.keep(TABLES, in_markdown(study_tables(report)).encode())
        self._kept.keep(REPORT, report.model_dump_json(indent=2).encode())


def _model_name(name: str) -> str:
    return f"models/{name}.json"


def _audit_name(seed: Seed) -> str:
    return f"audits/{seed}.json"


def _require_apart(test: Sequence[EncodedImage], seen: Sequence[EncodedImage]) -> None:
    """Refuse test images that are trained on or chosen by.

    Raises:
        InvalidRequest: An image is in both.
    """
    digests = {image.digest for image in seen}
    both = [image for image in test if image.digest in digests]
    if both:
        called = both[0].name or f"number {both[0].index}"
        msg = f"{len(both)} test images are images of the training, such as {called}; test on others"
        raise InvalidRequest(msg, field="test")
