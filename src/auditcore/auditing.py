"""One audit in this process, without any service: the library's front door."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, MutableMapping, Sequence

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.estimate import waves_of
from auditcore.contracts.images import ImageBatchReference, ImageUris, InlineImages
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.models import ModelReference
from auditcore.contracts.policy import validate_policy
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.speed import deviation_images
from auditcore.engine.pictures import Pictures
from auditcore.engine.shard import run_shard
from auditcore.engine.shared import reduce_shared
from auditcore.errors import InvalidRequest
from auditcore.fetching import read_resource
from auditcore.images.encoded import EncodedImage
from auditcore.models.loaders.table import load_classifier
from auditcore.report.assemble import assemble

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

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message how to mend it.
    """
    access = access or AccessRules()
    for position, (name, reference) in enumerate(request.references):
        with blaming_model(name, position):
            access.check_model(reference)
    access.check_images(request.images)
    plan = resolve_plan(request.plan)
    validate_policy(request.policy, plan, [name for name, _ in request.references if name is not None])
    encoded = list(images) if images is not None else read_images(request, access)
    chunks = [encoded[start : start + shard_images] for start in range(0, len(encoded), shard_images)]
    drawing = None if pictures is None else Pictures(images=picture_images, put=_keep_in(pictures))
    count = len(request.references)

    def run(position: int, name: str | None, reference: ModelReference) -> list[ShardResult]:
        """All shards of one model; it is forgotten before the next is loaded."""
        classifier = load_classifier(reference, access=access, device=device)
        waves = waves_of(plan)
        own: list[ShardResult] = []
        for wave in waves:
            reduced = reduce_shared(plan, own)
            for chunk in chunks:
                done = position + len(own) / (len(waves) * len(chunks))
                step = functools.partial(_advance, progress, done / count, 1 / (len(waves) * len(chunks) * count))
                own.append(
                    run_shard(
                        classifier=classifier,
                        images=chunk,
                        plan=plan,
                        wave=wave,
                        shared=reduced,
                        limits=access.limits,
                        progress=step,
                        clock=clock,
                        micro_batch=micro_batch,
                        pictures=drawing,
                        model_name=name,
                        deviation_images=max(0, deviation_images(len(encoded)) - chunks.index(chunk) * shard_images),
                    )
                )
        return own

    results: list[ShardResult] = []
    shared: dict[str | None, dict[str, tuple[float, ...]]] = {}
    for position, (name, reference) in enumerate(request.references):
        with blaming_model(name, position):
            own = run(position, name, reference)
        shared[name] = reduce_shared(plan, own)
        results += own
    return assemble(
        audit_id=audit_id or str(uuid.uuid4()),
        request=request,
        plan=plan,
        results=results,
        shared=shared,
        attempts=len(results),
        started_at=None,
        finished_at=None,
    )


def _advance(progress: Callable[[float], None], done: float, span: float, share: float) -> None:
    """Tell the share of the whole audit, given that of one shard."""
    progress(done + span * share)


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
