"""ROAR and KAR stage by stage: the price, whole images, then each explainer in each repeat, then the report."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.kept import MeasurePrice
from auditcore.contracts.retraining.roar import CellScore, MadeMaps, RoarCell, RoarRequest, untouched
from auditcore.contracts.retraining.stages import MAKE_REPORT, PRICE, retrain_stage, untouched_stage
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.request import TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.costs.retraining import roar_map_passes
from auditcore.costs.training_estimate import training_passes
from auditcore.errors import InvalidRequest, WorkInterrupted
from auditcore.explainers.registry import applicability
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles
from auditcore.metrics.remove_and_retrain import removed_pixels, without_pixels
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.retraining.kept_results import keep_result
from auditcore.retraining.pixel_ranks import CONSTANT_MAP, PixelRanks, labels_of, pixel_ranks, predicted_classes
from auditcore.retraining.price import keep_price, kept_price, read_price
from auditcore.retraining.roar_files import (
    cell_name,
    forget_checkpoint,
    keep_maps,
    keep_score,
    keep_weights,
    read_maps,
    read_score,
    read_weights,
)
from auditcore.retraining.roar_results import RoarOutcome, make_roar_report
from auditcore.retraining.roar_weights import with_random_weights
from auditcore.retraining.single_labels import require_single_labels
from auditcore.retraining.speed import MeasuredSpeed, measured_speed, require_budget
from auditcore.retraining.training_faults import blaming_explainer, blaming_training
from auditcore.training.kept_training import advance_in_parts
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.local_training import TrainingSets, training_sets
from auditcore.training.trained_weights import with_weights
from auditcore.training.training_run import TrainingRun


class _Ranks(NamedTuple):
    """The order of the pixels of all images by one explainer in one repeat."""

    training: dict[RankingOrder, PixelRanks]
    validation: dict[RankingOrder, PixelRanks]


class _Turn(NamedTuple):
    """How a stage tells how far it is, and asks whether to go on.

    Attributes:
        progress: Called with the share of the stage that is done.
        enough: Whether to stop.
    """

    progress: Callable[[float], None]
    enough: Callable[[], bool]

    def part(self, number: int, count: int) -> _Turn:
        """The same for one of several parts."""
        return self._replace(progress=lambda share: self.progress((number + share) / count))


def require_allowed(request: RoarRequest, access: AccessRules) -> None:
    """Refuse a measurement that cannot be carried out whatever its images are.

    Raises:
        InputError: A function is not allowed, or the model cannot be trained.
    """
    require_trainable(request.model)
    access.check_explainers(request.plan.explainers)
    with blaming_training():
        check_training_explainers(request.plan.training, access)


@final
class RoarRun:
    """One measurement, whose stages have only the kept files in common.

    The score of each training is kept, and the weights of those on untouched images, which explain. Ranks of pixels
    are not: they are made again from the same weights and seeds, which gives the same.
    """

    def __init__(
        self,
        request: RoarRequest,
        images: Sequence[EncodedImage],
        validation: Sequence[EncodedImage] | None,
        *,
        experiment_id: str,
        kept: KeptFiles,
        access: AccessRules,
        device: torch.device | str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a measurement, or to go on with one; nothing is computed yet.

        Args:
            request: With a pinned model.
            images: Encoded training images.
            validation: Encoded validation images; None if some of the others are held out.
            experiment_id: Name of the measurement in its report.
            kept: Files of this measurement.
            access: What the request may reach.
            device: Where models run.
            clock: Seconds, monotonic.

        Raises:
            InputError: A function is not allowed, or the model cannot be trained.
        """
        require_allowed(request, access)
        self._request, self._plan = request, request.plan
        self._images, self._encoded_validation = images, validation
        self._id, self._kept, self._access, self._device, self._clock = experiment_id, kept, access, device, clock
        self._other: tuple[int, Classifier] | None = None
        self._last_ranks: tuple[int, str, _Ranks] | None = None

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage, or go on with one that was interrupted.

        Args:
            stage: One of `roar_stages`; all of earlier waves are done.
            progress: Called with the share of the stage that is done, in [0,1]; may raise AuditCancelled.
            enough: Asked after each step of a training and each batch of maps.

        Raises:
            InputError: The measurement cannot be carried out, or the kept files are those of another one.
            BudgetTooSmall: It would probably not fit into its budget; the stage `price` says so.
            TrainingDiverged: The loss of a training is NaN or infinite.
            WorkInterrupted: It was enough for now; the same call goes on. An interruption costs at most the maps of
                one explainer.
        """
        turn = _Turn(progress, enough)
        if stage.name == PRICE:
            self._begin()
        elif stage.name == MAKE_REPORT:
            keep_result(self._kept, REPORT, make_roar_report(self._outcome()))
        elif stage.name in self._trainings:
            self._train_all(*self._trainings[stage.name], turn)
        progress(1.0)

    # what the request names

    @functools.cached_property
    def _first(self) -> Classifier:
        """The model with the random weights of the first repeat."""
        first = self._load(self._training_request(0).model)
        require_single_labels(first)
        return first

    @functools.cached_property
    def _sets(self) -> TrainingSets:
        asked = self._training_request(0)
        sets = training_sets(asked, self._first, self._images, self._encoded_validation, self._access.limits)
        _require_in_memory(sets.training, sets.validation)
        return sets

    @functools.cached_property
    def _given(self) -> Classifier | None:
        """The model that explains, if the plan says that it is given."""
        if self._plan.explained_model == "trained":
            return None
        given = self._load(self._request.model)
        if not given.trained:
            msg = (
                "`explained_model` is 'given', and the given model has random weights, so its maps say nothing; name "
                "trained weights, or set it to 'trained'"
            )
            raise InvalidRequest(msg, field="model.weights")
        return given

    @functools.cached_property
    def _unable(self) -> dict[str, str]:
        """Name of an explainer that cannot run on the model -> why."""
        model = self._given or self._first
        reasons = {one.label: applicability(model, one) for one in self._plan.explained}
        return {label: reason for label, reason in reasons.items() if reason is not None}

    @functools.cached_property
    def _explained(self) -> tuple[Explainer, ...]:
        """Explainers that run on the model, and the control."""
        return tuple(one for one in self._plan.explained if one.label not in self._unable)

    @functools.cached_property
    def _cells(self) -> tuple[RoarCell, ...]:
        return self._plan.cells(self._explained)

    @functools.cached_property
    def _trainings(self) -> dict[str, tuple[int, Explainer | None]]:
        """Name of a stage -> its repeat and explainer; an explainer that cannot run has nothing to train."""
        repeats = range(self._plan.repeats)
        whole = {untouched_stage(repeat): (repeat, None) for repeat in repeats}
        return whole | {
            retrain_stage(repeat, one.label): (repeat, one) for repeat in repeats for one in self._explained
        }

    @functools.cached_property
    def _digest(self) -> Sha256:
        """Digest of everything that decides the scores: plan, models and images."""
        models = [self._first.digest, None if self._given is None else self._given.digest]
        data = [self._sets.training.digest, self._sets.validation.digest]
        return digest_of([self._plan.model_dump(mode="json"), models, data])

    def _load(self, reference: ModelReference) -> Classifier:
        return load_classifier(reference, access=self._access, device=self._device)

    def _training_request(self, repeat: int) -> TrainingRequest:
        plan = self._plan.training
        seeded = plan.model_copy(update={"seed": plan.seed + repeat})
        return self._request.training_request(seeded, with_random_weights(self._request.model, plan.seed, repeat))

    def _start(self, repeat: int) -> Classifier:
        """The model with the random weights of a repeat; the last one stays in memory beside the first."""
        if repeat == 0:
            return self._first
        if self._other is None or self._other[0] != repeat:
            self._other = (repeat, self._load(self._training_request(repeat).model))
        return self._other[1]

    # the price

    def _begin(self) -> None:
        """Measure the speed and keep the price; where it is kept, weigh what is left."""
        known = kept_price(self._kept, self._digest)
        if known is not None:
            scores = self._scores()
            spent = sum(one.seconds for one in scores) + sum(one.seconds for one in self._maps())
            left = 1 - len(scores) / len(self._cells)
            require_budget(self._request.budget_seconds, known.estimate, spent=spent, left=left)
            return
        sets = self._sets
        with blaming_training():
            speed = measured_speed(self._training_request(0), self._first, sets.training, sets.validation, self._clock)
        estimate = self._estimate(speed)
        require_budget(self._request.budget_seconds, estimate)
        keep_price(self._kept, MeasurePrice(measurement_id=self._id, measurement=self._digest, estimate=estimate))

    def _estimate(self, speed: MeasuredSpeed) -> RetrainingCost:
        plan, trainings, shape = self._plan.training, len(self._cells), self._first.shape
        training, validation = len(self._sets.training), len(self._sets.validation)
        one = training_passes(plan, training=training, validation=validation, shape=shape)
        maps = roar_map_passes(self._plan, self._explained, images=training + validation, shape=shape)
        whole = one.times(trainings).plus(maps)
        seconds = speed.training(plan, training_images=training, validation_images=validation)
        return RetrainingCost(
            trainings=trainings,
            forward_images=whole.forward,
            backward_images=whole.backward,
            seconds=trainings * seconds + speed.passes(maps),
            device=str(self._first.device),
        )

    # trainings

    def _train_all(self, repeat: int, explainer: Explainer | None, turn: _Turn) -> None:
        """Every training of a stage that is not done.

        Args:
            repeat: Number of the repeat.
            explainer: Whose maps decide; None for the trainings that need no map.
            turn: Progress and question.
        """
        read_price(self._kept, self._digest)
        label = None if explainer is None else explainer.label
        cells = [cell for cell in self._cells if (cell.repeat, cell.explainer) == (repeat, label)]
        for number, cell in enumerate(cells):
            if read_score(self._kept, cell) is not None:
                # it may have been interrupted right before this
                forget_checkpoint(self._kept, cell)
                continue
            own = turn.part(number, len(cells))
            ranks = None if explainer is None else self._ranks_of(explainer, repeat, own)
            keep_score(self._kept, self._score(cell, ranks, own))
            forget_checkpoint(self._kept, cell)
        self._last_ranks = None

    def _score(self, cell: RoarCell, ranks: _Ranks | None, turn: _Turn) -> CellScore:
        training, validation, _ = self._sets
        if ranks is not None and cell.order is not None:
            by_training, by_validation = ranks.training[cell.order], ranks.validation[cell.order]
            if bool(by_training.constant.all()) and bool(by_validation.constant.all()):
                return CellScore(cell=cell, score=None, reason=f"of every image: {CONSTANT_MAP}", trainings=0)
            training = self._changed(training, by_training, cell)
            validation = self._changed(validation, by_validation, cell)
        elif cell.share == 1:
            training, validation = self._emptied(training), self._emptied(validation)
        with blaming_training():
            run = TrainingRun(
                self._training_request(cell.repeat),
                self._start(cell.repeat),
                training,
                validation,
                limits=self._access.limits,
                clock=self._clock,
            )
            advance_in_parts(
                run, self._kept, cell_name(cell), progress=turn.progress, enough=turn.enough, clock=self._clock
            )
        if cell == untouched(cell.repeat) and self._plan.explained_model == "trained":
            # before the score, which says that the training is done
            keep_weights(self._kept, cell, run.weights())
        history = run.history
        score = history.epochs[-1].validation_score
        assert score is not None  # noqa: S101 - only null for models with several labels
        return CellScore(
            cell=cell,
            score=significant(score, VALUE_DIGITS),
            forward_images=history.forward_images,
            backward_images=history.backward_images,
            seconds=history.seconds,
        )

    def _changed(self, images: LabeledImages, ranks: PixelRanks, cell: RoarCell) -> LabeledImages:
        assert images.decoded is not None  # noqa: S101 - `_require_in_memory`
        removed = removed_pixels(ranks.rank, cell.share, cell.measure)
        return replace(images, decoded=without_pixels(images.decoded, removed, self._first.mean.cpu()))

    def _emptied(self, images: LabeledImages) -> LabeledImages:
        assert images.decoded is not None  # noqa: S101 - `_require_in_memory`
        return replace(images, decoded=self._first.mean.cpu().expand_as(images.decoded).contiguous())

    # maps

    def _ranks_of(self, explainer: Explainer, repeat: int, turn: _Turn) -> _Ranks:
        """The ranks of an explainer in a repeat, which stay in memory until its trainings are done."""
        if self._last_ranks is not None and self._last_ranks[:2] == (repeat, explainer.label):
            return self._last_ranks[2]
        # memory for the new ones first
        self._last_ranks = None
        found = self._made_ranks(explainer, repeat, turn)
        self._last_ranks = (repeat, explainer.label, found)
        return found

    def _made_ranks(self, explainer: Explainer, repeat: int, turn: _Turn) -> _Ranks:
        """The ranks of an explainer in a repeat; what they cost is kept the first time."""
        model = self._explaining(repeat)
        ledger, began = model.ledger, self._clock()
        forward, backward = ledger.forward_images, ledger.backward_images
        colors: dict[str, Tensor] = {}

        def tick() -> None:
            turn.progress(0.0)
            if turn.enough():
                raise WorkInterrupted

        def of(images: LabeledImages) -> dict[RankingOrder, PixelRanks]:
            by_label = self._plan.target == "label"
            targets = labels_of(images) if by_label else predicted_classes(model, images, tick)
            return pixel_ranks(
                model,
                explainer,
                images,
                targets,
                orders=self._plan.orders(explainer),
                reduce=self._plan.reduce,
                seed=self._plan.training.seed + repeat,
                tick=tick,
                colors=colors,
            )

        training, validation, _ = self._sets
        with blaming_explainer(explainer):
            found = _Ranks(of(training), of(validation))
        if read_maps(self._kept, repeat, explainer.label) is None:
            made = MadeMaps(
                repeat=repeat,
                explainer=explainer.label,
                images=len(training) + len(validation),
                constant={
                    order: int(found.training[order].constant.sum() + found.validation[order].constant.sum())
                    for order in found.training
                },
                forward_images=ledger.forward_images - forward,
                backward_images=ledger.backward_images - backward,
                seconds=self._clock() - began,
            )
            keep_maps(self._kept, made)
        return found

    def _explaining(self, repeat: int) -> Classifier:
        """The model that explains in a repeat."""
        return self._given or with_weights(self._start(repeat), read_weights(self._kept, untouched(repeat)))

    # what is done

    def _scores(self) -> list[CellScore]:
        found = (read_score(self._kept, cell) for cell in self._cells)
        return [score for score in found if score is not None]

    def _maps(self) -> list[MadeMaps]:
        found = (
            read_maps(self._kept, repeat, explainer.label)
            for repeat in range(self._plan.repeats)
            for explainer in self._explained
        )
        return [made for made in found if made is not None]

    def _outcome(self) -> RoarOutcome:
        return RoarOutcome(
            request=self._request,
            price=read_price(self._kept, self._digest),
            first=self._first,
            given=self._given,
            sets=self._sets,
            explained=self._explained,
            unable=self._unable,
            scores=self._scores(),
            maps=self._maps(),
        )


def _require_in_memory(training: LabeledImages, validation: LabeledImages) -> None:
    """Refuse image sets that do not stay decoded in memory: pixels are removed from decoded images."""
    for images, field in ((training, "images"), (validation, "validation")):
        if images.decoded is None:
            msg = (
                f"the {len(images)} decoded images are too large to stay in memory, where their pixels are removed; "
                "take fewer images, or a smaller input size"
            )
            raise InvalidRequest(msg, field=field)
