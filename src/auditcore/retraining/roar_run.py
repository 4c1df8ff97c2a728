"""ROAR and KAR, training by training, from a state to the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from auditcore.contracts.access import Limits
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel, Weights
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.roar import CellScore, MadeMaps, RoarCell, RoarRequest, RoarState, untouched
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.contracts.training.request import TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.costs.retraining import roar_map_passes, training_passes
from auditcore.errors import CheckpointInvalid, InvalidRequest
from auditcore.explainers.registry import applicability
from auditcore.metrics.remove_and_retrain import removed_pixels, without_pixels
from auditcore.models.classifier import Classifier
from auditcore.retraining.pixel_ranks import CONSTANT_MAP, PixelRanks, labels_of, pixel_ranks, predicted_classes
from auditcore.retraining.speed import MeasuredSpeed, measured_speed, require_budget
from auditcore.retraining.training_faults import blaming_explainer, blaming_training
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.training_run import TrainingRun

RANDOM = "random:"
"""How weights that are drawn and not read are named."""


def with_random_weights(reference: ModelReference, seed: int, repeat: int) -> BuiltModel:
    """The architecture of a model with the random weights of a repeat.

    Args:
        reference: The model.
        seed: Of the first repeat, where the model's own weights are not random.
        repeat: Number of the repeat, from 0.

    Raises:
        ModelNotTrainable: The weights of this kind of model cannot be replaced.
    """
    require_trainable(reference)
    built = reference.as_factory() if isinstance(reference, DemoModel) else reference
    assert isinstance(built, BuiltModel)  # noqa: S101 - only these are trainable
    own = built.weights.uri
    if own.startswith(RANDOM):
        if not own.removeprefix(RANDOM).isdecimal():
            # the loader says what is wrong with it
            return built
        seed = int(own.removeprefix(RANDOM))
    return built.model_copy(update={"weights": Weights(uri=f"{RANDOM}{seed + repeat}")})


@final
@dataclass(frozen=True)
class _Ranks:
    """The order of the pixels of all images by one explainer in one repeat."""

    repeat: int
    explainer: str
    training: dict[RankingOrder, PixelRanks]
    validation: dict[RankingOrder, PixelRanks]


@final
class RoarRun:
    """One measurement. Its trainings come in a fixed order; a state names those that are done.

    Only what the next training needs is in memory: one model that explains, and the ranks of one explainer. After an
    interruption both are made again; the same seeds give the same.

    Attributes:
        explained: Explainers that run on the model, and the control.
        unable: Name of an explainer that cannot run on the model -> why.
        state: How far it has come.
        first: The model with the random weights of the first repeat.
        given: The model that explains, if the plan says that it is given.
    """

    def __init__(
        self,
        request: RoarRequest,
        load: Callable[[ModelReference], Classifier],
        training: LabeledImages,
        validation: LabeledImages,
        *,
        first: Classifier,
        roar_id: str,
        state: RoarState | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a measurement, or go on with one; nothing is trained yet.

        Args:
            request: What to do.
            load: From a reference to the model on its device.
            training: Images to train on.
            validation: Images to measure on.
            first: The model with the random weights of the first repeat.
            roar_id: Of the measurement, where it begins.
            state: How far it has come; None where it begins.
            limits: Sizes that are checked before a file is decoded.
            clock: Seconds, monotonic.

        Raises:
            InputError: The measure is not defined for the model or the images, or the state is another measurement's.
            BudgetTooSmall: The measure would probably not fit into its budget.
        """
        self._request, self._plan, self._load = request, request.plan, load
        self._training, self._validation = training, validation
        self._limits, self._clock = limits or Limits(), clock
        _require_single_labels(first)
        _require_in_memory(training, validation)
        self.first = first
        self.given = self._load_given()
        explainers = self._plan.explained
        reasons = {one.label: applicability(self.given or first, one) for one in explainers}
        self.unable = {label: reason for label, reason in reasons.items() if reason is not None}
        self.explained: tuple[Explainer, ...] = tuple(one for one in explainers if one.label not in self.unable)
        self._cells = self._plan.cells(self.explained)
        self._starts: tuple[int, Classifier] = (0, first)
        self._trained: tuple[int, Classifier] | None = None
        self._ranks: _Ranks | None = None
        self.state = self._begun(roar_id) if state is None else self._resumed(state)

    @property
    def digest(self) -> Sha256:
        """Digest of everything that decides the scores: plan, models and images."""
        models = [self.first.digest, None if self.given is None else self.given.digest]
        data = [self._training.digest, self._validation.digest]
        return digest_of([self._plan.model_dump(mode="json"), models, data])

    def run(
        self,
        *,
        progress: Callable[[float], None] = lambda _share: None,
        keep_state: Callable[[RoarState], None] = lambda _state: None,
    ) -> None:
        """Do every training that is not done.

        Args:
            progress: Called after each step of a training with the share of the trainings done, in [0,1]; may raise
                AuditCancelled.
            keep_state: Called after each training with the state from which another process can go on.

        Raises:
            TrainingDiverged: The loss of a training is NaN or infinite.
        """
        done = {score.cell for score in self.state.scores}
        for number, cell in enumerate(self._cells):
            if cell in done:
                continue

            def advance(share: float, number: int = number) -> None:
                progress((number + share) / len(self._cells))

            score = self._score(cell, advance)
            self.state = self.state.model_copy(update={"scores": (*self.state.scores, score)})
            keep_state(self.state)
        progress(1.0)

    def _begun(self, roar_id: str) -> RoarState:
        with blaming_training():
            speed = measured_speed(self._training_request(0), self.first, *self._sets, self._clock)
        estimate = self._estimate(speed)
        require_budget(self._request.budget_seconds, estimate)
        return RoarState(roar_id=roar_id, measurement=self.digest, estimate=estimate)

    def _resumed(self, state: RoarState) -> RoarState:
        if state.measurement != self.digest:
            msg = "the state belongs to another measurement; plan, model and images have to be the same"
            raise CheckpointInvalid(msg, field="state")
        spent = sum(one.seconds for one in state.scores) + sum(one.seconds for one in state.maps)
        left = 1 - len(state.scores) / len(self._cells)
        require_budget(self._request.budget_seconds, state.estimate, spent=spent, left=left)
        return state

    def _estimate(self, speed: MeasuredSpeed) -> RetrainingCost:
        plan, trainings = self._plan.training, len(self._cells)
        counts = {"training_images": len(self._training), "validation_images": len(self._validation)}
        passes = training_passes(plan, shape=self.first.shape, **counts).times(trainings)
        maps = roar_map_passes(self._plan, self.explained, images=sum(counts.values()), shape=self.first.shape)
        whole: Passes = passes.plus(maps)
        return RetrainingCost(
            trainings=trainings,
            forward_images=whole.forward,
            backward_images=whole.backward,
            seconds=trainings * speed.training(plan, **counts) + speed.passes(maps),
            device=str(self.first.device),
        )

    @property
    def _sets(self) -> tuple[LabeledImages, LabeledImages]:
        return self._training, self._validation

    def _load_given(self) -> Classifier | None:
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

    def _training_request(self, repeat: int) -> TrainingRequest:
        plan = self._plan.training
        seeded = plan.model_copy(update={"seed": plan.seed + repeat})
        return self._request.training_request(seeded, with_random_weights(self._request.model, plan.seed, repeat))

    def _start(self, repeat: int) -> Classifier:
        """The model with the random weights of a repeat."""
        if self._starts[0] != repeat:
            self._starts = (repeat, self._load(self._training_request(repeat).model))
        return self._starts[1]

    def _train(
        self, repeat: int, training: LabeledImages, validation: LabeledImages, progress: Callable[[float], None]
    ) -> TrainingRun:
        with blaming_training():
            run = TrainingRun(
                self._training_request(repeat),
                self._start(repeat),
                training,
                validation,
                limits=self._limits,
                clock=self._clock,
            )
            run.advance(progress=progress)
        return run

    def _score(self, cell: RoarCell, progress: Callable[[float], None]) -> CellScore:
        training, validation = self._training, self._validation
        if cell.explainer is not None and cell.order is not None:
            ranks = self._ranks_of(cell.repeat, cell.explainer, progress)
            constant = (ranks.training[cell.order].constant, ranks.validation[cell.order].constant)
            if all(bool(part.all()) for part in constant):
                return CellScore(cell=cell, score=None, reason=f"of every image: {CONSTANT_MAP}", trainings=0)
            training = self._changed(training, ranks.training[cell.order], cell)
            validation = self._changed(validation, ranks.validation[cell.order], cell)
        elif cell.share == 1:
            training, validation = (self._emptied(images) for images in self._sets)
        run = self._train(cell.repeat, training, validation, progress)
        if cell == untouched(cell.repeat):
            self._trained = (cell.repeat, run.network.frozen)
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
        return replace(images, decoded=without_pixels(images.decoded, removed, self.first.mean.cpu()))

    def _emptied(self, images: LabeledImages) -> LabeledImages:
        assert images.decoded is not None  # noqa: S101 - `_require_in_memory`
        return replace(images, decoded=self.first.mean.cpu().expand_as(images.decoded).contiguous())

    def _ranks_of(self, repeat: int, label: str, progress: Callable[[float], None]) -> _Ranks:
        """The ranks of an explainer in a repeat; the last ones are kept, since trainings come in this order."""
        if self._ranks is not None and (self._ranks.repeat, self._ranks.explainer) == (repeat, label):
            return self._ranks
        # memory for the new ones first
        self._ranks = None
        explainer = next(one for one in self.explained if one.label == label)
        model = self._explaining(repeat, progress)
        seed = self._plan.training.seed + repeat
        ledger, began = model.ledger, self._clock()
        forward, backward = ledger.forward_images, ledger.backward_images

        def tick() -> None:
            progress(0.0)

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
                seed=seed,
                tick=tick,
            )

        with blaming_explainer(explainer):
            found = _Ranks(repeat, label, of(self._training), of(self._validation))
        self._ranks = found
        self._note_maps(
            MadeMaps(
                repeat=repeat,
                explainer=label,
                images=len(self._training) + len(self._validation),
                constant={
                    order: int(found.training[order].constant.sum() + found.validation[order].constant.sum())
                    for order in found.training
                },
                forward_images=ledger.forward_images - forward,
                backward_images=ledger.backward_images - backward,
                seconds=self._clock() - began,
            )
        )
        return found

    def _note_maps(self, made: MadeMaps) -> None:
        """Remember what maps cost, the first time they are made."""
        if not any((one.repeat, one.explainer) == (made.repeat, made.explainer) for one in self.state.maps):
            self.state = self.state.model_copy(update={"maps": (*self.state.maps, made)})

    def _explaining(self, repeat: int, progress: Callable[[float], None]) -> Classifier:
        """The model that explains in a repeat; after an interruption it is trained again."""
        if self.given is not None:
            return self.given
        if self._trained is None or self._trained[0] != repeat:
            run = self._train(repeat, *self._sets, lambda _share: progress(0.0))
            self._trained = (repeat, run.network.frozen)
        return self._trained[1]


def _require_single_labels(classifier: Classifier) -> None:
    if classifier.scores != "softmax":
        msg = (
            "the model has several labels per image, and this measure explains one class per image; it is defined for "
            "models with softmax scores"
        )
        raise InvalidRequest(msg, field="model.scores")


def _require_in_memory(training: LabeledImages, validation: LabeledImages) -> None:
    """Refuse image sets that do not stay decoded in memory: pixels are removed from decoded images."""
    for images, field in ((training, "images"), (validation, "validation")):
        if images.decoded is None:
            msg = (
                f"the {len(images)} decoded images are too large to stay in memory, where their pixels are removed; "
                "take fewer images, or a smaller input size"
            )
            raise InvalidRequest(msg, field=field)
