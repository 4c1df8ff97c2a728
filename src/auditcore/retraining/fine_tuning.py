"""What the stages of a measure on a fine-tuned model share: fine-tuning, predictions, and values of explainers."""

from __future__ import annotations

import functools
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.kept import CountedWork, MeasurePrice
from auditcore.contracts.shards import ModelRecord
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import LeftOutImage
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.costs.estimate import weight
from auditcore.costs.training_estimate import training_passes
from auditcore.engine.model_records import model_record
from auditcore.explainers.registry import applicability
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.kept_results import MeasuredTensors
from auditcore.retraining.measuring_in_parts import MeasuringInParts, read_measured
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE, labels_of
from auditcore.retraining.price import keep_price, kept_price, read_price
from auditcore.retraining.single_labels import require_single_labels
from auditcore.retraining.speed import measured_speed, require_budget
from auditcore.retraining.training_faults import blaming_training
from auditcore.training.kept_training import read_trained, train_in_parts
from auditcore.training.labeled_images import LabeledImages, Use, read_labeled
from auditcore.training.local_training import PreparedTraining, Trained, TrainingSets, training_sets
from auditcore.training.trained_weights import with_weights
from auditcore.training.training_run import TrainingRun

FineTunedRequest = FFidelityRequest | IdsdsRequest

PassesOfMeasure = Callable[[Sequence[Explainer], int, InputShape], Passes]
"""(explainers that run, images, shape of the input) -> passes on the fine-tuned model, predictions among them."""

MeasureExplainer = Callable[[FineTuned, MutableMapping[str, Tensor], Callable[[], None]], dict[str, Tensor]]
"""(model and some images, values that all images share, tick) -> tensors whose first dimension is the images."""

TRAINING = "fine_tuned"
"""Name of the training; its weights are kept under the same name."""

PREDICTIONS = "predictions"
_LOGITS = "logits"


@final
@dataclass(frozen=True)
class _Data:
    """The images of a measurement.

    Attributes:
        training: To fine-tune on; None if nothing is trained.
        measured: To measure on.
        left_out: Images that could not be used.
    """

    training: LabeledImages | None
    measured: LabeledImages
    left_out: tuple[LeftOutImage, ...]


def values_of(explainer: Explainer) -> str:
    """Name of the kept values of an explainer."""
    return f"values/{explainer.label}"


def require_allowed(request: FineTunedRequest, access: AccessRules) -> None:
    """Refuse a measurement that cannot be carried out whatever its images are.

    Raises:
        InputError: A function is not allowed, or the model cannot be trained.
    """
    access.check_explainers(request.plan.explainers)
    if request.plan.training is not None:
        require_trainable(request.model)
        with blaming_training():
            check_training_explainers(request.plan.training, access)


@final
class FineTuning:
    """A measurement whose stages have only the kept files in common. Model and images are loaded when they are needed.

    Attributes:
        request: With a pinned model.
    """

    def __init__(
        self,
        request: FineTunedRequest,
        images: Sequence[EncodedImage],
        validation: Sequence[EncodedImage] | None,
        *,
        passes: PassesOfMeasure,
        experiment_id: str,
        kept: KeptFiles,
        access: AccessRules,
        device: torch.device | str,
        clock: Callable[[], float],
    ) -> None:
        """Prepare a measurement; nothing is computed yet.

        Args:
            request: With a pinned model.
            images: Encoded training images.
            validation: Encoded images to measure on; None if some of the others are held out.
            passes: What the measure costs on the fine-tuned model.
            experiment_id: Name of the measurement, where it begins.
            kept: Files of this measurement.
            access: What the request may reach.
            device: Where the model runs.
            clock: Seconds, monotonic.

        Raises:
            InputError: A function is not allowed, or the model cannot be trained.
        """
        require_allowed(request, access)
        self.request = request
        self._images, self._validation, self._passes = images, validation, passes
        self._id, self._kept, self._access, self._device, self._clock = experiment_id, kept, access, device, clock

    @functools.cached_property
    def start(self) -> Classifier:
        """The model of the request.

        Raises:
            InputError: It cannot be loaded, or has several labels per image.
        """
        start = load_classifier(self.request.model, access=self._access, device=self._device)
        require_single_labels(start)
        return start

    @functools.cached_property
    def data(self) -> _Data:
        """The images to fine-tune on and those to measure; without a training nothing is held out.

        Raises:
            InputError: Images or labels cannot be used.
        """
        limits = self._access.limits
        if self._plan is not None:
            asked = self.request.training_request(self._plan, self.request.model)
            sets = training_sets(asked, self.start, self._images, self._validation, limits)
            return _Data(sets.training, sets.validation, sets.left_out)
        use: Use = "training" if self._validation is None else "validation"
        encoded = self._images if self._validation is None else self._validation
        found, left_out = read_labeled(encoded, use=use, model=self.start, limits=limits)
        return _Data(None, found, left_out)

    @functools.cached_property
    def unable(self) -> dict[str, str]:
        """Name of an explainer that cannot run on the model -> why."""
        reasons = {one.label: applicability(self.start, one) for one in self.request.plan.explained}
        return {label: reason for label, reason in reasons.items() if reason is not None}

    @property
    def able(self) -> tuple[Explainer, ...]:
        """Explainers that run on the model, and the control."""
        return tuple(one for one in self.request.plan.explained if one.label not in self.unable)

    @functools.cached_property
    def price(self) -> MeasurePrice:
        """What the first stage has kept.

        Raises:
            InvalidRequest: It is of another measurement.
        """
        return read_price(self._kept, self._digest)

    @functools.cached_property
    def trained(self) -> Trained | None:
        """The fine-tuning; None if the model is measured as it is."""
        if self._plan is None:
            return None
        found = read_trained(self._kept, TRAINING)
        assert found is not None  # noqa: S101 - the first stage is done
        return found

    @functools.cached_property
    def tuned(self) -> FineTuned:
        """The fine-tuned model and all images.

        Raises:
            InvalidRequest: A kept file is of another measurement, or damaged.
        """
        logits = self.measured(PREDICTIONS).tensors[_LOGITS]
        model, request = self._measured_model, self.request
        given = isinstance(request, FFidelityRequest) and request.plan.explained_model == "given"
        targets = labels_of(self.data.measured) if request.plan.target == "label" else logits.argmax(dim=1)
        return FineTuned(model, self.start if given else model, self.data.measured, targets, logits)

    @property
    def records(self) -> tuple[ModelRecord, ModelRecord]:
        """Of the model that is measured, and of the one that makes the maps."""
        own = model_record(self.start)
        tuned = own if self.trained is None else self.trained.report.trained.record
        return tuned, own if self.tuned.explained is self.start else tuned

    def fine_tune(self, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Price the measurement, fine-tune the model, and predict the images that are measured.

        Args:
            progress: Called with the share done, in [0,1]; may raise AuditCancelled.
            enough: Asked now and then.

        Raises:
            InputError: The request cannot be carried out.
            BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
            WorkInterrupted: It was enough for now.
        """
        self._begin()
        training, predicting = self._training_passes, LOGITS.times(len(self.data.measured))
        share = weight(training) / weight(training.plus(predicting))
        if self._plan is not None and read_trained(self._kept, TRAINING) is None:
            self._train(self._plan, lambda done: progress(share * done), enough)

        def predict(part: slice, _shared: MutableMapping[str, Tensor], tick: Callable[[], None]) -> dict[str, Tensor]:
            return {_LOGITS: _logits(self._measured_model, self.data.measured.take(range(images)[part]), tick)}

        images = len(self.data.measured)
        self._in_parts(PREDICTIONS).run(
            predict, expected=predicting, progress=lambda done: progress(share + (1 - share) * done), enough=enough
        )

    def measure(
        self,
        name: str,
        work: MeasureExplainer,
        *,
        expected: Passes,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> None:
        """Measure all images on the fine-tuned model, part by part, and keep the values.

        Args:
            name: Of the kept values.
            work: Measures some of the images.
            expected: Passes of the whole, for the progress.
            progress: Called after each batch with the share done, in [0,1]; may raise AuditCancelled.
            enough: Asked after each batch.

        Raises:
            WorkInterrupted: It was enough for now; the parts that are done are kept.
            InputError: The work cannot be carried out.
        """
        tuned = self.tuned

        def measure(part: slice, shared: MutableMapping[str, Tensor], tick: Callable[[], None]) -> dict[str, Tensor]:
            return work(tuned.take(part), shared, tick)

        self._in_parts(name).run(measure, expected=expected, progress=progress, enough=enough)

    def measured(self, name: str) -> MeasuredTensors:
        """What an earlier stage has measured.

        Raises:
            InvalidRequest: It is of another measurement, or damaged.
        """
        self.price  # noqa: B018 - whose files these are comes first
        return read_measured(self._kept, name)

    def cost(self, names: Sequence[str]) -> RetrainingCost:
        """What was counted in all.

        Args:
            names: Of everything that was measured on the fine-tuned model, beside the predictions.
        """
        whole = CountedWork()
        if self.trained is not None:
            own = self.trained.report.cost
            whole = CountedWork(
                forward_images=own.forward_images, backward_images=own.backward_images, seconds=own.seconds
            )
        for name in (PREDICTIONS, *names):
            whole = whole.plus(self.measured(name).counted)
        return RetrainingCost(
            trainings=0 if self.trained is None else 1, device=str(self.start.device), **whole.model_dump()
        )

    @property
    def _plan(self) -> TrainingPlan | None:
        return self.request.plan.training

    @functools.cached_property
    def _digest(self) -> Sha256:
        """Digest of everything that decides the values: plan, model and images."""
        training = None if self.data.training is None else self.data.training.digest
        plan = self.request.plan.model_dump(mode="json")
        return digest_of([plan, self.start.digest, training, self.data.measured.digest])

    @functools.cached_property
    def _measured_model(self) -> Classifier:
        return self.start if self.trained is None else with_weights(self.start, self.trained.weights)

    @property
    def _training_passes(self) -> Passes:
        if self._plan is None or self.data.training is None:
            return NOTHING
        return training_passes(
            self._plan,
            training=len(self.data.training),
            validation=len(self.data.measured),
            shape=self.start.shape,
        )

    def _in_parts(self, name: str) -> MeasuringInParts:
        return MeasuringInParts(
            self._kept, name, images=len(self.data.measured), measured=self.start, clock=self._clock
        )

    def _begin(self) -> None:
        """Measure the speed and keep the price, unless it is kept."""
        known = kept_price(self._kept, self._digest)
        if known is not None:
            require_budget(self.request.budget_seconds, known.estimate)
            return
        # what the measure refuses is refused before anything runs
        measuring = self._passes(self.able, len(self.data.measured), self.start.shape)
        estimate = self._estimate(measuring)
        require_budget(self.request.budget_seconds, estimate)
        keep_price(self._kept, MeasurePrice(measurement_id=self._id, measurement=self._digest, estimate=estimate))

    def _estimate(self, measuring: Passes) -> RetrainingCost:
        plan, data = self._plan, self.data
        asked = None if plan is None else self.request.training_request(plan, self.request.model)
        training = data.training if data.training is not None else data.measured
        with blaming_training():
            speed = measured_speed(asked, self.start, training, data.measured, self._clock)
        seconds = speed.passes(measuring)
        if plan is not None:
            seconds += speed.training(plan, training_images=len(training), validation_images=len(data.measured))
        passes = measuring.plus(self._training_passes)
        return RetrainingCost(
            trainings=0 if plan is None else 1,
            forward_images=passes.forward,
            backward_images=passes.backward,
            seconds=seconds,
            device=str(self.start.device),
        )

    def _train(self, plan: TrainingPlan, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        data = self.data
        assert data.training is not None  # noqa: S101 - there is a plan
        asked = self.request.training_request(plan, self.request.model)
        with blaming_training():
            run = TrainingRun(
                asked, self.start, data.training, data.measured, limits=self._access.limits, clock=self._clock
            )
            prepared = PreparedTraining(
                asked, run, self.start, TrainingSets(data.training, data.measured, data.left_out)
            )
            train_in_parts(prepared, self._kept, TRAINING, progress=progress, enough=enough, clock=self._clock)


def _logits(classifier: Classifier, images: LabeledImages, tick: Callable[[], None]) -> Float[Tensor, "image class"]:
    found = torch.empty(len(images), classifier.classes)

    def work(part: slice) -> None:
        found[part] = classifier.logits(images.pixels(range(len(images))[part]).to(classifier.device)).cpu()

    MicroBatches(IMAGES_AT_ONCE).each(len(images), work, tick=tick)
    return found
