"""One audit in this process, without any service: the library's front door."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.baseline_reference import BaselineReference
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.stopping import looks
from auditcore.engine.inspection import inspect
from auditcore.engine.shard_task import Runtime
from auditcore.errors import InvalidRequest, WorkInterrupted
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import uploaded_maps
from auditcore.kept_files import KeptFiles
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.orchestration.audit_run import AuditRun
from auditcore.orchestration.in_memory_storage import InMemoryStorage
from auditcore.orchestration.kept_results import KeptResults
from auditcore.orchestration.prepared_request import prepare_request, with_baseline_model
from auditcore.orchestration.reading_images import read_images, with_stored_images
from auditcore.orchestration.sharding import ShardRange, models_depend, shard_ranges
from auditcore.report.baseline import require_comparable
from auditcore.report.serialize import report_bytes
from auditcore.sources.resolving import resolve_model

SHARD_IMAGES = 64
"""Most images in memory at once. One map of each of them and of each explainer stays in memory until its shard ends."""


def audit(
    request: AuditRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], float] = time.perf_counter,
    shard_images: int = SHARD_IMAGES,
    micro_batch: int | None = None,
    audit_id: str | None = None,
    pictures: MutableMapping[str, bytes] | None = None,
    picture_images: int = PICTURE_IMAGES,
    maps: Mapping[str, bytes] | None = None,
    baseline: AuditReport | None = None,
    kept: KeptFiles | None = None,
    kept_as: str = "audit",
    enough: Callable[[], bool] = lambda: False,
) -> AuditReport:
    """Audit the explanations of one model or several on some images.

    Args:
        request: Model or models, images, plan and policy.
        images: Encoded images to use instead of `request.images`; needed when that names a stored batch.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        progress: Called between micro-batches with the share done, in [0, 1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        shard_images: Most images that are processed together. Scores depend on it only by rounding.
        micro_batch: Images per pass; chosen for the device if None. Scores depend on it only by rounding.
        audit_id: Name of the audit in the report; a random one if None.
        pictures: Receives the bytes of every artifact of the report by its digest; nothing is drawn if None.
        picture_images: How many images get pictures, counted from the first.
        maps: Files of maps by their digest, for explainers of kind `precomputed`; `contracts.map_files` describes
            the format.
        baseline: An earlier report on the same images, for conditions on changes and for checks that compare models.
            Its digest takes the place of the one in `request.baseline`.
        kept: Keeps the results of shards until the report is made, so that another call goes on from them. It must be
            about the same request and images. Pictures are not kept.
        kept_as: Name of the audit among the kept files.
        enough: Asked between micro-batches; once it says so, WorkInterrupted is raised.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        WorkInterrupted: It was enough for now.
    """
    access = access or AccessRules()
    request = _with_baseline(request, baseline)
    prepared = prepare_request(request, access)
    request, plan = prepared.request, prepared.plan
    encoded = read_images(request, access) if images is None else images
    if images is None:
        request = with_stored_images(request, encoded)
    if baseline is not None:
        names = [name for name, _ in request.references]
        require_comparable(baseline, models=names, images=[image.digest for image in encoded])
        request = with_baseline_model(replace(prepared, request=request), baseline, access).request
    storage = InMemoryStorage(encoded, maps=maps, pictures=pictures)
    # maps that cannot be used are an error before any model is loaded
    uploaded_maps(plan, storage.read_maps)
    run = AuditRun(
        audit_id or str(uuid.uuid4()),
        request,
        plan,
        images=len(encoded),
        storage=storage,
        picture_images=0 if pictures is None else picture_images,
    )
    load = functools.partial(load_classifier, access=access, device=device)
    results = KeptResults(kept, kept_as)
    shards = _shards(request, plan, images=len(encoded), shard_images=shard_images)
    whole = sum(shard.stop - shard.start for shard in shards)
    done = 0
    loaded: dict[int, Classifier] = {}
    for shard in shards:
        count = shard.stop - shard.start
        result = results.read(shard)
        if result is None:
            references = run.references_of(shard)
            needed = (shard.model, *references.values())
            if request.stop is None:
                # only what a shard needs is in memory; a stop rule needs all models at every look
                loaded = {model: classifier for model, classifier in loaded.items() if model in needed}
            loaded |= {model: run.load_model(model, load) for model in needed if model not in loaded}
            result = run.run_shard(
                shard,
                Runtime(
                    loaded[shard.model],
                    references={name: loaded[model] for name, model in references.items()},
                    limits=access.limits,
                    micro_batch=micro_batch,
                    progress=functools.partial(_advance, progress, done / whole, count / whole, enough),
                    clock=clock,
                ),
            )
            results.keep(shard, result)
        storage.keep_result(shard, result)
        done += count
        if _ends_look(request, shard, images=len(encoded)) and run.stop_at() is not None:
            progress(1.0)
            break
    report = run.assemble(attempts=len(storage.finished), baseline=baseline)
    results.forget(storage.finished)
    return report


def inspect_model(
    request: InspectionRequest, *, access: AccessRules | None = None, device: torch.device | str = "cpu"
) -> Inspection:
    """Load a model and find out which explainers and checks can run on it, and why the others cannot.

    Args:
        request: The model, and a plan if only its explainers and checks are of interest.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs.

    Raises:
        InputError: The model cannot be audited; `field` says where, the message says how to fix it.
    """
    access = access or AccessRules()
    access.check_explainers(request.explainers)
    resolution = resolve_model(request.model, access)
    classifier = load_classifier(resolution.reference, access=access, device=device)
    return inspect(classifier, request, resolution.reference, facts=resolution.facts)


def _with_baseline(request: AuditRequest, baseline: AuditReport | None) -> AuditRequest:
    """The request with the digest of the report that was given as its baseline."""
    if baseline is not None:
        model = None if request.baseline is None else request.baseline.model
        reference = BaselineReference(report=sha256(report_bytes(baseline)), model=model)
        return request.model_copy(update={"baseline": reference})
    if request.baseline is not None:
        msg = "the request names a baseline that only a service stores; pass the report to `audit` as `baseline`"
        raise InvalidRequest(msg, field="baseline")
    return request


def _shards(request: AuditRequest, plan: AuditPlan, *, images: int, shard_images: int) -> list[ShardRange]:
    """The shards of an audit in an order that loads each model as rarely as possible."""
    shards = list(
        shard_ranges(
            plan,
            images=images,
            shard_images=shard_images,
            models=len(request.references),
            compared=len(request.loaded_models) - len(request.references),
            stop=request.stop,
        )
    )
    if request.stop is None and not models_depend(plan):
        # all waves of a model before the next model is loaded
        shards.sort(key=lambda shard: shard.model)
    return shards


def _ends_look(request: AuditRequest, shard: ShardRange, *, images: int) -> bool:
    """Whether all models have seen what the stop rule looks at next."""
    return (
        request.stop is not None
        and shard.wave == "compute"
        and shard.model == len(request.references) - 1
        and shard.stop in looks(images, request.stop.first_look)
    )


def _advance(
    progress: Callable[[float], None], done: float, span: float, enough: Callable[[], bool], share: float
) -> None:
    """Report the share of the whole audit, given the share of one shard; give the shard up if it is enough for now."""
    progress(done + span * share)
    if enough():
        raise WorkInterrupted
