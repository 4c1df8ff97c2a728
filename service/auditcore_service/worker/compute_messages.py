"""What a worker and its compute process say to each other. Each message is the JSON object of one frame.

The worker gives an order: `RunShard`, `StopAt`, `Assemble`, `Train`, `Finish`, `RunStage` or `Inspect`. Until the
compute process answers it with one of `Outcome`, it may ask for what it needs, one question after the other. The worker
may say `Cancel` at any time.
"""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, TypeAdapter

from auditcore.contracts.contract import Contract
from auditcore.contracts.experiments.stage import FileName, Stage
from auditcore.contracts.images import Box, Labels
from auditcore.contracts.masks import Mask
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.packaged_models import HuggingFaceModel, MlflowModel
from auditcore.contracts.policy import Row
from auditcore.contracts.shards import EndOfProcess, Wave
from auditcore.errors import InputError
from auditcore.orchestration.sharding import ShardRange
from auditcore.report.stopping import Observations
from auditcore_service.worker.compute_settings import ComputeSettings
from auditcore_service.worker.sandbox.profile import SandboxProfile

MOST_IMAGES = 100_000
MOST_TEXT = 100_000


@final
class Fault(Contract):
    """An `InputError` on its way to the other process.

    Attributes:
        code: Which of them.
        message: What was found and how to fix it.
        field: Path of the offending field in the request.
        passing: Whether the same request may succeed later.
    """

    code: str = Field(max_length=100)
    message: str = Field(max_length=MOST_TEXT)
    field: str = Field(max_length=MOST_TEXT)
    passing: bool

    @classmethod
    def of(cls, error: InputError) -> Fault:
        """The record of an error."""
        return cls(
            code=error.code, message=error.message[:MOST_TEXT], field=error.field[:MOST_TEXT], passing=error.passing
        )

    def as_error(self) -> InputError | None:
        """The error again, without the numbers that only its own class has; None if there is none with this code."""
        kind = next((kind for kind in _kinds(InputError) if kind.code == self.code), None)
        if kind is None:
            return None
        error = kind.__new__(kind)
        InputError.__init__(error, self.message, field=self.field, passing=self.passing)
        return error


def _kinds(base: type[InputError]) -> list[type[InputError]]:
    return [base, *(kind for below in base.__subclasses__() for kind in _kinds(below))]


# orders and answers of the worker


@final
class Begin(Contract):
    """The first message: how to compute, and what the kernel should keep the process from."""

    kind: Literal["begin"] = "begin"
    settings: ComputeSettings
    sandbox: SandboxProfile | None


@final
class AuditHead(Contract):
    """An audit; its request and its plan stand beside the order, in this order.

    Attributes:
        id: Of the audit.
        tenant: Whose it is.
        images: Number of images of the batch.
    """

    id: str
    tenant: str
    images: int


@final
class RunShard(Contract):
    """Compute a shard."""

    kind: Literal["run_shard"] = "run_shard"
    audit: AuditHead
    wave: Wave
    model: int
    start: int
    stop: int
    left_out: dict[int, EndOfProcess]

    @property
    def part(self) -> ShardRange:
        """Which wave, model and images."""
        return ShardRange(self.wave, self.model, self.start, self.stop)


@final
class StopAt(Contract):
    """Say whether an audit may end."""

    kind: Literal["stop_at"] = "stop_at"
    audit: AuditHead


@final
class Assemble(Contract):
    """Make the report; the baseline, if there is one, is the third part beside."""

    kind: Literal["assemble"] = "assemble"
    audit: AuditHead
    attempts: int
    started_at: str
    finished_at: str
    estimated_seconds: float | None


@final
class Inspect(Contract):
    """Load a model and say what runs on it; the request stands beside."""

    kind: Literal["inspect"] = "inspect"
    reference: ModelReference
    purpose: str
    tenant: str


@final
class TrainingHead(Contract):
    """A training; its request stands beside the order.

    Attributes:
        id: Of the training.
        tenant: Whose it is.
        training_images: Number of images to train on, before any is held out.
        validation_images: Number of images that were given for validation.
    """

    id: str
    tenant: str
    training_images: int
    validation_images: int


@final
class Train(Contract):
    """Take steps of a training, from its newest checkpoint on.

    Attributes:
        start: Steps that are done.
    """

    kind: Literal["train"] = "train"
    training: TrainingHead
    start: int


@final
class Finish(Contract):
    """Make weights and report of a training."""

    kind: Literal["finish"] = "finish"
    training: TrainingHead
    attempts: int


@final
class ExperimentHead(Contract):
    """An experiment; its request stands beside the order, and after it the failed report of a remedy.

    Attributes:
        id: Of the experiment.
        tenant: Whose it is.
        training_images: Number of images to train on, before any is held out.
        validation_images: Number of images that were given for validation.
        test_images: Number of images to test on, or that the failed audit has examined.
    """

    id: str
    tenant: str
    training_images: int
    validation_images: int
    test_images: int


@final
class RunStage(Contract):
    """Do a stage of an experiment, from what is kept on."""

    kind: Literal["run_stage"] = "run_stage"
    experiment: ExperimentHead
    stage: Stage


@final
class Given(Contract):
    """The answer to a question; bytes stand beside.

    Attributes:
        text: A digest or a path, if that is the answer.
        yes: The answer to a question of yes or no.
    """

    kind: Literal["given"] = "given"
    text: str | None = None
    yes: bool = False


@final
class Refused(Contract):
    """The answer to a question about something that cannot be used."""

    kind: Literal["refused"] = "refused"
    fault: Fault


@final
class Unavailable(Contract):
    """The answer to a question when the worker itself has failed; the order is void."""

    kind: Literal["unavailable"] = "unavailable"


@final
class Cancel(Contract):
    """The order is no longer wanted."""

    kind: Literal["cancel"] = "cancel"


Order = RunShard | StopAt | Assemble | Train | Finish | RunStage | Inspect | Cancel
Answer = Given | Refused | Unavailable | Cancel

BEGIN: TypeAdapter[Begin] = TypeAdapter(Begin)
ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


# what the compute process says


@final
class Ready(Contract):
    """The process can take orders.

    Attributes:
        device: Where it computes.
        sandbox: What the kernel keeps it from, by name.
    """

    kind: Literal["ready"] = "ready"
    device: str = Field(max_length=100)
    sandbox: tuple[str, ...] = Field(default=(), max_length=20)


@final
class Unready(Contract):
    """The process cannot work, and ends."""

    kind: Literal["unready"] = "unready"
    reason: str = Field(max_length=MOST_TEXT)


@final
class Progress(Contract):
    """The order goes on.

    Attributes:
        share: What is done, in [0, 1].
        images_begun: Whether the models are loaded and prepared, and images are being decoded or computed.
    """

    kind: Literal["progress"] = "progress"
    share: float = Field(ge=0, le=1)
    images_begun: bool


@final
class AskEnough(Contract):
    """Whether to end after this group of images."""

    kind: Literal["ask_enough"] = "ask_enough"


@final
class AskImages(Contract):
    """Images of the batch; the answer has their heads and their files beside."""

    kind: Literal["ask_images"] = "ask_images"
    indices: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=MOST_IMAGES)


@final
class AskMaps(Contract):
    """A file of uploaded maps."""

    kind: Literal["ask_maps"] = "ask_maps"
    digest: str = Field(max_length=100)


@final
class KeepPicture(Contract):
    """A PNG to keep, which stands beside."""

    kind: Literal["keep_picture"] = "keep_picture"


@final
class OpenResults(Contract):
    """Begin to read the results of a wave; of one model, or of all if None."""

    kind: Literal["open_results"] = "open_results"
    wave: Wave
    model: int | None


@final
class NextResult(Contract):
    """The next of the results that were opened last; nothing stands beside the answer after the last one."""

    kind: Literal["next_result"] = "next_result"


@final
class AskObservations(Contract):
    """What finished shards say about some results."""

    kind: Literal["ask_observations"] = "ask_observations"
    rows: tuple[Row, ...] = Field(max_length=MOST_IMAGES)


@final
class AskCheckpoint(Contract):
    """The newest checkpoint of the training; it stands beside the answer."""

    kind: Literal["ask_checkpoint"] = "ask_checkpoint"


@final
class AskKept(Contract):
    """A kept file of the experiment; nothing stands beside the answer if it is not there."""

    kind: Literal["ask_kept"] = "ask_kept"
    name: FileName


@final
class AskKeptUri(Contract):
    """The URI of a kept file of the experiment; the answer has no text if it is not there."""

    kind: Literal["ask_kept_uri"] = "ask_kept_uri"
    name: FileName


@final
class KeepFile(Contract):
    """A file of the experiment to keep, which stands beside."""

    kind: Literal["keep_file"] = "keep_file"
    name: FileName


@final
class ForgetKept(Contract):
    """A kept file of the experiment that is not needed any more."""

    kind: Literal["forget_kept"] = "forget_kept"
    name: FileName


@final
class AskFile(Contract):
    """The bytes behind a URI, as a file that this process may read."""

    kind: Literal["ask_file"] = "ask_file"
    uri: str = Field(max_length=MOST_TEXT)
    field: str = Field(max_length=MOST_TEXT)
    limit_bytes: int
    sha256: str | None = Field(max_length=100)


@final
class AskPin(Contract):
    """The digest of what is behind a URI now."""

    kind: Literal["ask_pin"] = "ask_pin"
    uri: str = Field(max_length=MOST_TEXT)
    field: str = Field(max_length=MOST_TEXT)
    limit_bytes: int


@final
class AskRegistry(Contract):
    """The files of a model of a registry, as a folder that this process may read."""

    kind: Literal["ask_registry"] = "ask_registry"
    reference: Annotated[HuggingFaceModel | MlflowModel, Field(discriminator="kind")]


@final
class ShardComputed(Contract):
    """The result of a shard, which stands beside.

    Attributes:
        stop: One past the last image that is in it.
        cold: Whether the model was calibrated for it.
    """

    kind: Literal["shard_computed"] = "shard_computed"
    stop: int
    cold: bool


@final
class StopDecided(Contract):
    """After how many images the audit may end; None while it must go on."""

    kind: Literal["stop_decided"] = "stop_decided"
    images: int | None


@final
class ReportMade(Contract):
    """A report, which stands beside."""

    kind: Literal["report_made"] = "report_made"


@final
class StepsTrained(Contract):
    """Steps of a training are done; the checkpoint stands beside.

    Attributes:
        stop: Number of steps that are done by now.
        ended: Whether there is nothing more to do.
        passes: Their expected work in forward passes, with validation and audits after their epochs.
        seconds: Time that it took.
        device: Where it was done.
    """

    kind: Literal["steps_trained"] = "steps_trained"
    stop: int
    ended: bool
    passes: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    device: str


@final
class Finished(Contract):
    """The report and the weights of a training, which stand beside."""

    kind: Literal["finished"] = "finished"


@final
class StageDone(Contract):
    """Work on a stage is over.

    Attributes:
        ended: Whether the stage is done; else what is done of it is kept.
    """

    kind: Literal["stage_done"] = "stage_done"
    ended: bool


@final
class Inspected(Contract):
    """What runs on a model, which stands beside."""

    kind: Literal["inspected"] = "inspected"


@final
class Failed(Contract):
    """The order cannot be carried out: the request, the model or an image cannot be used."""

    kind: Literal["failed"] = "failed"
    fault: Fault


@final
class Cancelled(Contract):
    """The order was given up, because the worker said so."""

    kind: Literal["cancelled"] = "cancelled"


@final
class Broke(Contract):
    """An error that is nobody's on purpose.

    Attributes:
        error: Its type and message.
        trace: Its traceback.
    """

    kind: Literal["broke"] = "broke"
    error: str = Field(max_length=MOST_TEXT)
    trace: str = Field(max_length=MOST_TEXT)


Question = (
    Progress
    | AskEnough
    | AskImages
    | AskMaps
    | KeepPicture
    | OpenResults
    | NextResult
    | AskObservations
    | AskCheckpoint
    | AskKept
    | AskKeptUri
    | KeepFile
    | ForgetKept
    | AskFile
    | AskPin
    | AskRegistry
)
Outcome = (
    ShardComputed
    | StopDecided
    | ReportMade
    | StepsTrained
    | Finished
    | StageDone
    | Inspected
    | Failed
    | Cancelled
    | Broke
)

READY: TypeAdapter[Ready | Unready] = TypeAdapter(Annotated[Ready | Unready, Field(discriminator="kind")])
SAID: TypeAdapter[Question | Outcome] = TypeAdapter(Annotated[Question | Outcome, Field(discriminator="kind")])


# records beside messages


@final
class ImageHead(Contract):
    """An image without its file, as `EncodedImage`."""

    index: int
    name: str | None
    label: Labels | None
    boxes: tuple[Box, ...]
    masks: tuple[Mask, ...]


@final
class ObservationRecord(Contract):
    """`Observations` as lists: a key of a JSON object is one text."""

    model: str | None
    images: tuple[int, ...]
    used: dict[int, str]
    values: tuple[tuple[Row, dict[int, float]], ...]

    @classmethod
    def of(cls, seen: Observations) -> ObservationRecord:
        """The record of what one shard says."""
        return cls(
            model=seen.model,
            images=seen.images,
            used=dict(seen.used),
            values=tuple((row, dict(values)) for row, values in seen.values.items()),
        )

    def as_observations(self) -> Observations:
        """What the shard says."""
        return Observations(model=self.model, images=self.images, used=self.used, values=dict(self.values))


IMAGE_HEADS: TypeAdapter[tuple[ImageHead, ...]] = TypeAdapter(tuple[ImageHead, ...])
OBSERVATIONS: TypeAdapter[tuple[ObservationRecord, ...]] = TypeAdapter(tuple[ObservationRecord, ...])
