"""One audit in this process, without any service: the library's front door."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.automatic_intervals import Quantities, automatic_intervals, with_shared_intervals
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.images import ImageBatchReference, ImageUris, InlineImages
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import validate_policy
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.contracts.speed import deviation_images
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.costs.estimate import waves_of
from auditcore.engine.inspection import inspect
from auditcore.engine.pictures import Pictures
from auditcore.engine.shard import run_shard
from auditcore.engine.shared import reduce_shared
from auditcore.errors import DigestMismatch, InvalidRequest, UnreachableResource
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import UploadedMaps, uploaded_maps
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.report.assemble import assemble
from auditcore.report.stopping import Conclusion, Observations, image_order, observe
from auditcore.sources.fetching import read_resource
from auditcore.sources.resolving import resolve_model, resolve_request

SHARD_IMAGES = 64
"""Images held in memory at once; a map of each and explainer stays until its shard ends."""


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
) -> AuditReport:
    """Audit the explanations of one model or several on some images.

    Args:
        request: Model or models, images, plan and policy.
        images: Encoded images to use instead of `request.images`; needed when that names a stored batch.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        progress: Called between micro-batches with the share done in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        shard_images: Images processed together; scores do not depend on it beyond rounding.
        micro_batch: Images a pass, chosen by device if None; likewise.
        audit_id: Name of the audit in the report; a random one if None.
        pictures: Receives the bytes of every artifact of the report by its digest; nothing is drawn if None.
        picture_images: How many images get pictures, counted from the first.
        maps: Files of maps by their digest, for explainers of kind `precomputed`; `contracts.map_files` says how they
            are written.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message how to mend it.
    """
    access = access or AccessRules()
    access.check_images(request.images)
    request, _ = resolve_request(request, access)
    plan = resolve_plan(request.plan)
    validate_policy(request.policy, plan, [name for name, _ in request.references if name is not None])
    encoded = list(images) if images is not None else read_images(request, access)
    order = None if request.stop is None else image_order(plan.seed, len(encoded))
    drawing = None if pictures is None else Pictures(images=picture_images, put=_keep_in(pictures), order=order)
    waves = _Waves(
        request=request,
        plan=plan,
        images=encoded,
        access=access,
        device=device,
        progress=progress,
        clock=clock,
        shard_images=shard_images,
        micro_batch=micro_batch,
        pictures=drawing,
        uploaded=uploaded_maps(plan, functools.partial(_uploaded, maps or {})),
        order=order,
    )
    if request.stop is None or order is None:
        waves.run_all()
    else:
        waves.run_until_decided(request.stop, order)
    results = waves.results
    return assemble(
        audit_id=audit_id or str(uuid.uuid4()),
        request=request,
        plan=plan,
        results=results,
        shared=waves.measured,
        attempts=len(results),
        started_at=None,
        finished_at=None,
        image_count=len(encoded),
    )


def inspect_model(
    request: InspectionRequest, *, access: AccessRules | None = None, device: torch.device | str = "cpu"
) -> Inspection:
    """What will run on a model, and why the rest will not; loads it.

    Args:
        request: The model, and perhaps a plan.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs.

    Raises:
        InputError: The model cannot be audited; `field` says where, the message how to mend it.
    """
    access = access or AccessRules()
    resolution = resolve_model(request.model, access)
    classifier = load_classifier(resolution.reference, access=access, device=device)
    return inspect(classifier, request, resolution.reference, facts=resolution.facts)


@dataclass
class _Waves:
    """All waves of all models, with what they have come to so far.

    Attributes:
        results: Of the shards that are done.
        measured: Name of a model -> quantities of the whole audit, from its own first wave.
    """

    request: AuditRequest
    plan: AuditPlan
    images: Sequence[EncodedImage]
    access: AccessRules
    device: torch.device | str
    progress: Callable[[float], None]
    clock: Callable[[], float]
    shard_images: int
    micro_batch: int | None
    pictures: Pictures | None
    uploaded: Mapping[str, UploadedMaps]
    order: Sequence[int] | None
    results: list[ShardResult] = field(default_factory=list)
    measured: dict[str | None, dict[str, tuple[float, ...]]] = field(default_factory=dict)

    def run_all(self) -> None:
        """All images, one model after the other; each is forgotten before the next is loaded.

        Models that share automatic intervals are loaded twice, since all must be measured before any computes.
        """
        if len(self.request.references) > 1 and any(automatic_intervals(self.plan)):
            for position, (name, reference) in enumerate(self.request.references):
                with blaming_model(name, position):
                    self._measure(name, self._load(reference))
            for position, (name, reference) in enumerate(self.request.references):
                with blaming_model(name, position):
                    self._compute(name, self._load(reference), self.images)
            return
        for position, (name, reference) in enumerate(self.request.references):
            with blaming_model(name, position):
                classifier = self._load(reference)
                self._measure(name, classifier)
                self._compute(name, classifier, self.images)

    def run_until_decided(self, rule: Conclusive, order: Sequence[int]) -> None:
        """Images in a random order until the rule ends it; the models stay loaded, as each look needs all of them."""
        loaded: list[Classifier] = []
        for position, (name, reference) in enumerate(self.request.references):
            with blaming_model(name, position):
                loaded.append(self._load(reference))
                self._measure(name, loaded[-1])
        observations: list[Observations] = []
        start = 0
        for look in looks(len(self.images), rule.first_look):
            # in the order of the batch, as a shard wants them
            images = [self.images[position] for position in sorted(order[start:look])]
            for position, (name, _) in enumerate(self.request.references):
                with blaming_model(name, position):
                    found = self._compute(name, loaded[position], images)
                observations += [observe(self.request.policy, result) for result in found]
            start = look
            conclusion = Conclusion(self.request, self.plan, images=len(self.images), observations=observations)
            if conclusion.stop_at is not None:
                break
        self.progress(1.0)

    def _load(self, reference: ModelReference) -> Classifier:
        return load_classifier(reference, access=self.access, device=self.device)

    def _measure(self, name: str | None, classifier: Classifier) -> None:
        """Measure on all images what belongs to the whole audit."""
        results: list[ShardResult] = []
        if "measure" in waves_of(self.plan):
            results = self._run(name, classifier, "measure", self.images, shared={})
        self.measured[name] = reduce_shared(self.plan, results)

    def _compute(self, name: str | None, classifier: Classifier, images: Sequence[EncodedImage]) -> list[ShardResult]:
        shared = with_shared_intervals(self.plan, self.measured)[name]
        return self._run(name, classifier, "compute", images, shared=shared)

    def _run(
        self,
        name: str | None,
        classifier: Classifier,
        wave: Wave,
        images: Sequence[EncodedImage],
        *,
        shared: Quantities,
    ) -> list[ShardResult]:
        """One wave of one model on some images, shard by shard."""
        whole = len(waves_of(self.plan)) * len(self.request.references) * len(self.images)
        found: list[ShardResult] = []
        for start in range(0, len(images), self.shard_images):
            group = images[start : start + self.shard_images]
            done = sum(len(result.images) for result in self.results) / whole
            computed = sum(len(r.images) for r in self.results if (r.wave, r.model_name) == ("compute", name))
            found.append(
                run_shard(
                    classifier=classifier,
                    images=group,
                    plan=self.plan,
                    wave=wave,
                    shared=shared,
                    limits=self.access.limits,
                    progress=functools.partial(_advance, self.progress, done, len(group) / whole),
                    clock=self.clock,
                    micro_batch=self.micro_batch,
                    pictures=self.pictures,
                    model_name=name,
                    deviation_images=max(0, deviation_images(len(self.images)) - computed),
                    uploaded=self.uploaded,
                    audit_images=len(self.images),
                    order=self.order,
                )
            )
            self.results.append(found[-1])
        return found


def _advance(progress: Callable[[float], None], done: float, span: float, share: float) -> None:
    """Tell the share of the whole audit, given that of one shard."""
    progress(done + span * share)


def _uploaded(maps: Mapping[str, bytes], digest: str) -> bytes:
    data = maps.get(digest)
    if data is None:
        msg = f"no maps {digest} were given; pass their bytes as `maps`"
        raise UnreachableResource(msg, field="plan.explainers")
    if sha256(data) != digest:
        raise DigestMismatch(expected=digest, actual=sha256(data), field="plan.explainers")
    return data


def _keep_in(pictures: MutableMapping[str, bytes]) -> Callable[[bytes], str]:
    def put(data: bytes) -> str:
        digest = sha256(data)
        pictures[digest] = data
        return digest

    return put


def read_images(request: AuditRequest, access: AccessRules) -> list[EncodedImage]:
    """The encoded images that a request carries or points to.

    Raises:
        InvalidRequest: The request names a stored batch, which only a service knows.
        InputError: An image cannot be fetched or is not the one its digest names.
    """
    match request.images:
        case InlineImages(images=inline):
            return [EncodedImage(i, None, image.data, image.label, image.boxes) for i, image in enumerate(inline)]
        case ImageUris(uris=uris):
            return [
                EncodedImage(
                    number,
                    image.uri.rsplit("/", 1)[-1],
                    read_resource(
                        image.uri,
                        access=access,
                        field=f"images.uris.{number}.uri",
                        limit_bytes=access.limits.image_bytes,
                        sha256=image.sha256,
                    ),
                    image.label,
                    image.boxes,
                )
                for number, image in enumerate(uris)
            ]
        case ImageBatchReference():
            msg = "a stored batch is known to a service only; pass `images`, or name URIs or inline images"
            raise InvalidRequest(msg, field="images")
