"""A study in this process: train every method with every seed, audit the models of each seed together, compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np
import torch

from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import Seed
from auditcore.contracts.report import AuditReport, ExplainerAverage, Result
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.studies.plan import StudyMethod, StudyRequest
from auditcore.contracts.studies.report import ModelCorrelation, StudiedModel, StudyReport, StudyRow
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.metrics.model_correlation import LEAST_MODELS, pearson_over_models
from auditcore.models.loading import load_classifier
from auditcore.report.serialize import report_bytes
from auditcore.sources.resolving import resolve_model
from auditcore.studies.statistics import difference_by_seed, over_seeds
from auditcore.studies.study_folder import StudyFolder
from auditcore.studies.tables import study_tables
from auditcore.training.evaluation import predicted, score
from auditcore.training.labeled_images import read_labeled
from auditcore.training.local_training import read_other_images, train
from auditcore.training.results import trained_reference
from auditcore.training.stages import in_stage

ROBUSTNESS = "rao_auc"
DELETION_SCORES: tuple[Literal["lerf_auc", "inter_model_deletion"], ...] = ("lerf_auc", "inter_model_deletion")
FEW_MODELS = f"fewer than {LEAST_MODELS} models have both values"
EQUAL_MODELS = "all models have the same value of one of the two scores"


class _Key(NamedTuple):
    """What a row is about, apart from the method."""

    check: str
    metric: str
    variant: str | None
    explainer: str | None
    averaged: bool
    unit: str
    higher_is_better: bool | None


ACCURACY = _Key("performance", "accuracy", None, None, False, "share of images", True)  # noqa: FBT003 - named in its class


@final
@dataclass(frozen=True)
class _Inputs:
    """The images of a study."""

    training: Sequence[EncodedImage]
    validation: Sequence[EncodedImage] | None
    test: Sequence[EncodedImage]


def study(
    request: StudyRequest,
    *,
    out: Path,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    test: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float, str], None] = lambda _share, _now: None,
) -> StudyReport:
    """Compare training methods over seeds.

    Trained models and audits are kept in `out` as they are made, so that a study that was interrupted goes on where it
    was; `out` then also holds `study.json` and `tables.md`.

    Args:
        request: Model, images, methods, seeds and audit.
        out: Folder of the study.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded validation images to use instead of `request.validation`.
        test: Encoded test images to use instead of `request.test`.
        access: What the request may reach; nothing but the demo by default.
        device: Where models are trained and audited.
        progress: Called with the share done, in [0,1], and what is being done; may raise AuditCancelled.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
    """
    access = access or AccessRules()
    request = _resolved(request, access)
    folder = StudyFolder(out, request)
    inside = access.model_copy(update={"file_roots": (*access.file_roots, folder.path.resolve())})
    inputs = _read(request, access, images, validation, test)
    plan = request.plan
    cells = [(method, seed) for seed in plan.seeds for method in plan.methods]
    whole = len(cells) + len(plan.seeds)
    models: list[StudiedModel] = []
    audits: dict[Seed, AuditReport] = {}
    for number, (method, seed) in enumerate(cells):
        begun = number + len(audits)
        told = in_stage(progress, f"training {method.name}, seed {seed}", done=begun, stages=whole)
        report = folder.training(method.name, seed) or _train(
            request, method, seed, inputs, folder=folder, access=inside, device=device, progress=told
        )
        models.append(_studied(report, method, seed, inputs, folder=folder, access=inside, device=device))
        if method is plan.methods[-1]:
            told = in_stage(progress, f"auditing the models of seed {seed}", done=begun + 1, stages=whole)
            audits[seed] = folder.audit(seed) or _audit(
                request, seed, inputs, folder=folder, access=inside, device=device, progress=told
            )
    found = _report(request, models, audits)
    folder.keep_report(found.model_dump_json(indent=2).encode(), study_tables(found))
    progress(1.0, "done")
    return found


def _resolved(request: StudyRequest, access: AccessRules) -> StudyRequest:
    """The request about models as they are now."""
    methods = []
    for method in request.plan.methods:
        if method.model is not None:
            require_trainable(method.model)
            method = method.model_copy(update={"model": resolve_model(method.model, access).reference})  # noqa: PLW2901 - the same method
        methods.append(method)
    require_trainable(request.model)
    plan = request.plan.model_copy(update={"methods": tuple(methods)})
    return request.model_copy(update={"model": resolve_model(request.model, access).reference, "plan": plan})


def _read(
    request: StudyRequest,
    access: AccessRules,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
    test: Sequence[EncodedImage] | None,
) -> _Inputs:
    references = ((None, request.model),)
    if images is None:
        images = read_other_images(request.images, references, access, field="images")
    if validation is None and not isinstance(request.validation, HeldOut):
        validation = read_other_images(request.validation, references, access, field="validation")
    if test is None:
        test = read_other_images(request.test, references, access, field="test")
    seen = {image.digest for image in (*images, *(validation or ()))}
    both = [image for image in test if image.digest in seen]
    if both:
        called = both[0].name or f"number {both[0].index}"
        msg = f"{len(both)} test images are images of the training, such as {called}; test on others"
        raise InvalidRequest(msg, field="test")
    return _Inputs(images, validation, test)


def _train(
    request: StudyRequest,
    method: StudyMethod,
    seed: Seed,
    inputs: _Inputs,
    *,
    folder: StudyFolder,
    access: AccessRules,
    device: torch.device | str,
    progress: Callable[[float], None],
) -> TrainingReport:
    model = _start(request, method, seed, folder)
    wanted = TrainingRequest(
        model=model,
        images=request.images,
        validation=request.validation,
        plan=method.plan.model_copy(update={"seed": seed}),
        name=f"{method.name}, seed {seed}",
    )
    trained = train(
        wanted, images=inputs.training, validation=inputs.validation, access=access, device=device, progress=progress
    )
    folder.keep_training(method.name, seed, trained.report, trained.weights)
    return trained.report


def _start(request: StudyRequest, method: StudyMethod, seed: Seed, folder: StudyFolder) -> ModelReference:
    """The model that a method starts from with a seed; random weights are drawn with that seed."""
    if method.continues is not None:
        return _trained_model(method.continues, seed, folder)
    model = method.model or request.model
    if isinstance(model, DemoModel) or not model.weights.uri.startswith("random:"):  # type: ignore[union-attr]  # trainable kinds have weights
        return model
    weights = model.weights.model_copy(update={"uri": f"random:{seed}"})  # type: ignore[union-attr]
    return model.model_copy(update={"weights": weights})


def _trained_model(name: str, seed: Seed, folder: StudyFolder) -> ModelReference:
    path = folder.weights(name, seed)
    report = folder.training(name, seed)
    assert report is not None  # noqa: S101 - the plan has it before
    return trained_reference(report.request.model, report.trained.weights, uri=path.resolve().as_uri())


def _studied(
    report: TrainingReport,
    method: StudyMethod,
    seed: Seed,
    inputs: _Inputs,
    *,
    folder: StudyFolder,
    access: AccessRules,
    device: torch.device | str,
) -> StudiedModel:
    uri = folder.weights(method.name, seed).resolve().as_uri()
    reference = trained_reference(report.request.model, report.trained.weights, uri=uri)
    classifier = load_classifier(reference, access=access, device=device)
    test, _ = read_labeled(inputs.test, use="validation", model=classifier, limits=access.limits)
    logits = predicted(classifier, test)
    return StudiedModel(
        method=method.name,
        seed=seed,
        weights=report.trained.weights,
        training_report=sha256(report.model_dump_json(indent=2).encode()),
        accuracy=score(logits, test.truth.to(logits.device), classifier.scores),
        seconds=report.cost.seconds,
    )


def _audit(
    request: StudyRequest,
    seed: Seed,
    inputs: _Inputs,
    *,
    folder: StudyFolder,
    access: AccessRules,
    device: torch.device | str,
    progress: Callable[[float], None],
) -> AuditReport:
    models = tuple(
        NamedModel(name=method.name, model=_trained_model(method.name, seed, folder)) for method in request.plan.methods
    )
    wanted = AuditRequest(models=models, images=ImageBatchReference(digest=sha256(b"")), plan=request.plan.audit)
    images = inputs.test[: request.plan.audit_images]
    report = audit(wanted, images=images, access=access, device=device, progress=progress, audit_id=f"seed-{seed}")
    folder.keep_audit(seed, report)
    return report


def _report(request: StudyRequest, models: Sequence[StudiedModel], audits: dict[Seed, AuditReport]) -> StudyReport:
    table = _table(request, models, audits)
    baseline = request.plan.baseline
    rows = []
    for key, by_method in table.items():
        for method in request.plan.methods:
            values = by_method.get(method.name)
            if values is None:
                continue
            summary = over_seeds(values)
            other = by_method.get(baseline)
            compared = method.name != baseline and other is not None
            rows.append(
                StudyRow(
                    method=method.name,
                    **key._asdict(),
                    per_seed=tuple(values),
                    n=summary.n,
                    mean=summary.mean,
                    sem=summary.sem,
                    ci=summary.ci,
                    difference=difference_by_seed(values, other) if compared and other is not None else None,
                )
            )
    last = audits[request.plan.seeds[-1]]
    return StudyReport(
        request=request,
        models=tuple(models),
        audits={seed: sha256(report_bytes(report)) for seed, report in audits.items()},
        rows=tuple(rows),
        correlations=tuple(_correlations(table)),
        seconds=math.fsum([*(one.seconds for one in models), *(one.cost.seconds for one in audits.values())]),
        environment=last.manifest.environment,
    )


Table = dict[_Key, dict[str, list[float | None]]]
"""What a row is about -> method -> one value per seed."""


def _table(request: StudyRequest, models: Sequence[StudiedModel], audits: dict[Seed, AuditReport]) -> Table:
    seeds = request.plan.seeds
    table: Table = {ACCURACY: {}}
    for model in models:
        table[ACCURACY].setdefault(model.method, [None] * len(seeds))[seeds.index(model.seed)] = model.accuracy
    for place, seed in enumerate(seeds):
        report = audits[seed]
        found: list[tuple[str | None, Result | ExplainerAverage, str | None, bool]] = [
            *((one.model, one, one.explainer, False) for one in (*report.results, *report.controls)),
            *((one.model, one, None, True) for one in report.averages),
        ]
        for name, one, explainer, averaged in found:
            key = _Key(one.check, one.metric, one.variant, explainer, averaged, one.unit, one.higher_is_better)
            table.setdefault(key, {}).setdefault(name or "", [None] * len(seeds))[place] = one.mean
    return table


def _correlations(table: Table) -> list[ModelCorrelation]:
    """Robustness to random deletion with scores of deletion, both averaged over explainers."""
    found = []
    for key, robustness in table.items():
        if not (key.averaged and key.metric == ROBUSTNESS):
            continue
        for metric in DELETION_SCORES:
            own = next(
                (
                    by_method
                    for other, by_method in table.items()
                    if other.averaged and (other.check, other.variant, other.metric) == (key.check, key.variant, metric)
                ),
                None,
            )
            if own is not None:
                found.append(_correlation(key, metric, robustness, own))
    return found


def _correlation(
    key: _Key,
    metric: Literal["lerf_auc", "inter_model_deletion"],
    robustness: dict[str, list[float | None]],
    scores: dict[str, list[float | None]],
) -> ModelCorrelation:
    pairs = [
        (one, other)
        for method in robustness
        for one, other in zip(robustness[method], scores[method], strict=True)
        if one is not None and other is not None
    ]
    means = [
        (one, other)
        for method in robustness
        if (one := over_seeds(robustness[method]).mean) is not None
        and (other := over_seeds(scores[method]).mean) is not None
    ]
    pearson, over_methods = _pearson(pairs), _pearson(means)
    reason = None
    if pearson is None or over_methods is None:
        reason = FEW_MODELS if min(len(pairs), len(means)) < LEAST_MODELS else EQUAL_MODELS
    return ModelCorrelation(
        check=key.check,
        variant=key.variant,
        metric=metric,
        n=len(pairs),
        pearson=pearson,
        over_methods=over_methods,
        reason=reason,
    )


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < LEAST_MODELS:
        return None
    ones, others = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    found = pearson_over_models(ones, others)
    return None if math.isnan(found) else found
