"""F-Fidelity and IDSDS in this process, without any service: the library's front doors.

There is one training, and nothing is kept of it in between: an interrupted measurement begins anew. Fine-tuning by
itself, with `auditcore.train`, can go on from a checkpoint; its weights are then measured with `training: null`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.f_fidelity import (
    F_FIDELITY_METRICS,
    FFidelityPlan,
    FFidelityReport,
    FFidelityRequest,
)
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.costs.retraining import f_fidelity_passes, idsds_passes
from auditcore.images.encoded import EncodedImage
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.single_deletion import single_deletion_score
from auditcore.retraining.fidelity_values import MINUS, PLUS, fidelity_drops
from auditcore.retraining.fine_tuned_results import ImageValues, shared_fields
from auditcore.retraining.fine_tuning import FineTuned, fine_tuned
from auditcore.retraining.pixel_ranks import CONSTANT_MAP
from auditcore.retraining.single_deletions import (
    output_of,
    patches,
    relevance_of_patches,
    without_each_patch,
)

NOTHING_REMOVED = "no pixel would be removed for any size; raise `alpha_plus`, `alpha_minus`, `beta` or the sizes"
SAME_RELEVANCE = "all patches have the same relevance, or the map is not finite"
NO_DROP = "no patch changes the score of the target"


def f_fidelity(
    request: FFidelityRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda _share: None,
    keep_weights: Callable[[bytes], None] = lambda _weights: None,
    clock: Callable[[], float] = time.monotonic,
    measurement_id: str | None = None,
) -> FFidelityReport:
    """Fine-tune a model with random masks, and report how explanations stand the removal of random parts.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded images to measure on instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        keep_weights: Called once with the fine-tuned weights, a file of safetensors.
        clock: Seconds, monotonic.
        measurement_id: Name of the measurement in the report; a random one if None.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """

    def passes(able: Sequence[Explainer], count: int, shape: InputShape) -> Passes:
        return f_fidelity_passes(request.plan, able, images=count, shape=shape)

    tuned = fine_tuned(
        request,
        passes,
        images=images,
        validation=validation,
        access=access or AccessRules(),
        device=device,
        progress=progress,
        keep_weights=keep_weights,
        clock=clock,
    )
    measured = [values for explainer in tuned.able for values in _fidelity(tuned, request.plan, explainer)]
    fields = shared_fields(
        tuned, measured, measurement_id=measurement_id or str(uuid.uuid4()), seconds=clock() - tuned.began
    )
    progress(1.0)
    assert isinstance(tuned.request, FFidelityRequest)  # noqa: S101 - the same with a pinned model
    return FFidelityReport(request=tuned.request, **fields)


def idsds(
    request: IdsdsRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda _share: None,
    keep_weights: Callable[[bytes], None] = lambda _weights: None,
    clock: Callable[[], float] = time.monotonic,
    measurement_id: str | None = None,
) -> IdsdsReport:
    """Fine-tune a model with deleted patches, and report how maps agree with what single patches add.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded images to measure on instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        keep_weights: Called once with the fine-tuned weights, a file of safetensors.
        clock: Seconds, monotonic.
        measurement_id: Name of the measurement in the report; a random one if None.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """
    plan = request.plan

    def passes(able: Sequence[Explainer], count: int, shape: InputShape) -> Passes:
        # a grid that does not fit is refused before anything is trained
        patches(plan, shape.height, shape.width)
        return idsds_passes(plan, able, images=count, shape=shape)

    tuned = fine_tuned(
        request,
        passes,
        images=images,
        validation=validation,
        access=access or AccessRules(),
        device=device,
        progress=progress,
        keep_weights=keep_weights,
        clock=clock,
    )
    whole, without = output_of(tuned, plan, tuned.logits, tuned.targets), without_each_patch(tuned, plan)
    measured = [
        _correlated(plan, explainer, order, sums, whole, without)
        for explainer in tuned.able
        for order, sums in relevance_of_patches(tuned, plan, explainer).items()
    ]
    fields = shared_fields(
        tuned, measured, measurement_id=measurement_id or str(uuid.uuid4()), seconds=clock() - tuned.began
    )
    progress(1.0)
    assert isinstance(tuned.request, IdsdsRequest)  # noqa: S101 - the same with a pinned model
    return IdsdsReport(request=tuned.request, **fields)


def _fidelity(tuned: FineTuned, plan: FFidelityPlan, explainer: Explainer) -> Iterator[ImageValues]:
    """All metrics of one explainer, in each order of its maps."""
    for order, drops in fidelity_drops(tuned, plan, explainer).items():
        for metric in F_FIDELITY_METRICS:
            sign = PLUS if "_plus_" in metric else MINUS
            table = drops.accuracy if metric.endswith("accuracy") else drops.probability
            points = table[:, sign].numpy()
            defined = ~np.isnan(points)
            count = defined.sum(axis=1)
            total = np.where(defined, points, 0.0).sum(axis=1)
            values = np.divide(total, count, out=np.full(len(points), np.nan), where=count > 0)
            constant = drops.constant.tolist()
            yield ImageValues(
                explainer=explainer,
                order=order,
                metric=metric,
                higher_is_better=sign == PLUS,
                bounds=(-1.0, 1.0),
                values=values,
                reasons={
                    image: CONSTANT_MAP if constant[image] else NOTHING_REMOVED
                    for image in np.flatnonzero(count == 0).tolist()
                },
                x=plan.sizes,
                points=points,
            )


def _correlated(
    plan: IdsdsPlan,
    explainer: Explainer,
    order: RankingOrder,
    sums: Float[Tensor, "image patch"],
    whole: Float[Tensor, " image"],
    without: Float[Tensor, "image patch"],
) -> ImageValues:
    """The score of each image by one explainer."""
    values = single_deletion_score(sums, whole, without, plan.correlation)
    constant = is_constant(sums, torch.ones_like(sums, dtype=torch.bool)).tolist()
    undefined = values.isnan().nonzero().flatten().tolist()
    return ImageValues(
        explainer=explainer,
        order=order,
        metric="idsds",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        values=values.numpy(),
        reasons={image: SAME_RELEVANCE if constant[image] else NO_DROP for image in undefined},
    )
