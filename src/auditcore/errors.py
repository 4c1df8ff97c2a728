"""Every error the library raises on purpose, as one tree.

    AuditcoreError
    |-- InputError                     the caller can fix it; `field` says where
    |   |-- InvalidRequest             invalid_request
    |   |-- UnsafeReference            unsafe_reference
    |   |-- UnreachableResource        unreachable_resource
    |   |-- DigestMismatch             digest_mismatch
    |   |-- LimitExceeded              limit_exceeded
    |   |-- UndecodableImage           undecodable_image
    |   |-- AnnotationInvalid          annotation_invalid
    |   |-- NoUsableImages             no_usable_images
    |   |-- LabelOutOfRange            label_out_of_range
    |   |-- ModelSignatureInvalid      model_signature_invalid
    |   |-- ModelSignatureUntrusted    model_signature_untrusted
    |   |-- ModelNotLoadable           model_not_loadable
    |   |-- NonFiniteWeights           non_finite_weights
    |   |-- ModelOutputInvalid         model_output_invalid
    |   |-- ModelChanged               model_changed
    |   |-- ServerFailing              server_failing
    |   |-- RequestBudgetExceeded      request_budget_exceeded
    |   |-- MapsInvalid                maps_invalid
    |   |-- ExplainerFailing           explainer_failing
    |   |-- ModelNotTrainable          model_not_trainable
    |   |-- TrainingDiverged           training_diverged
    |   |-- BudgetTooSmall             budget_too_small
    |   |-- CheckpointInvalid          checkpoint_invalid
    |   `-- MemoryExhausted            memory_exhausted
    |-- NotApplicable                  not_applicable    a method cannot be right here; the audit goes on
    |-- ShapeError                     shape_error       two tensors do not fit; a bug of the caller
    |-- AuditCancelled                 cancelled         a client asked for the audit to stop
    `-- WorkInterrupted                interrupted       it was enough for now; what is done is kept

`code` is stable and appears in problem+json answers and in failed audits. `message` says how to fix it.
"""

from __future__ import annotations

from typing import ClassVar


class AuditcoreError(Exception):
    """Base class of all errors of this library.

    Attributes:
        code: Stable machine-readable name of the kind of error.
        message: One sentence for a person: what was found and how to fix it.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(AuditcoreError):
    """Something that the caller sent cannot be used.

    Attributes:
        field: Path of the offending field in the request, such as `model.weights.uri`.
        passing: Whether the same request may succeed later, such as when a server is up again.
    """

    code = "input_error"

    def __init__(self, message: str, *, field: str, passing: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.passing = passing


class InvalidRequest(InputError):
    """The request is well-formed but contradicts itself."""

    code = "invalid_request"


class UnsafeReference(InputError):
    """A URI, a factory or a file format that the operator has not allowed."""

    code = "unsafe_reference"


class UnreachableResource(InputError):
    """A URI is allowed but could not be read."""

    code = "unreachable_resource"


class DigestMismatch(InputError):
    """The digest of the content is not the expected one."""

    code = "digest_mismatch"

    def __init__(self, *, expected: str, actual: str, field: str) -> None:
        super().__init__(
            f"expected {expected} but the content is {actual}; "
            "send the digest of the bytes you mean, or upload them again",
            field=field,
        )
        self.expected = expected
        self.actual = actual


class LimitExceeded(InputError):
    """Something exceeds a size limit; checked before anything is decoded.

    Attributes:
        limit: The largest value allowed.
        actual: The value that was found, or a lower bound of it.
        unit: What is counted: bytes, pixels, images, entries.
    """

    code = "limit_exceeded"

    def __init__(self, *, what: str, limit: int, actual: int, unit: str, field: str) -> None:
        super().__init__(
            f"{what} has {actual} {unit}, more than the {limit} allowed; "
            "send less, or ask the operator to raise the limit",
            field=field,
        )
        self.limit = limit
        self.actual = actual
        self.unit = unit


class UndecodableImage(InputError):
    """The bytes are not an image in a supported format."""

    code = "undecodable_image"


class AnnotationInvalid(InputError):
    """Boxes or masks do not fit their image."""

    code = "annotation_invalid"


class NoUsableImages(InputError):
    """Every image of the batch was excluded, so nothing can be audited."""

    code = "no_usable_images"


class LabelOutOfRange(InputError):
    """A label is not a class index of the model."""

    code = "label_out_of_range"

    def __init__(self, *, label: int, classes: int, field: str) -> None:
        super().__init__(f"label {label} is not a class of this model; use 0 to {classes - 1}", field=field)
        self.label = label
        self.classes = classes


class ModelSignatureInvalid(InputError):
    """The signature of a model does not hold, or is for other files."""

    code = "model_signature_invalid"


class ModelSignatureUntrusted(InputError):
    """A model is signed with a key that the operator does not trust."""

    code = "model_signature_untrusted"


class ModelNotLoadable(InputError):
    """The architecture could not be built or the weights do not fit it."""

    code = "model_not_loadable"


class NonFiniteWeights(InputError):
    """A weight is NaN or infinite, so every score would be too."""

    code = "non_finite_weights"


class ModelOutputInvalid(InputError):
    """The output of the model is not one finite row of class scores per image."""

    code = "model_output_invalid"


class ModelChanged(InputError):
    """A registry or server returns another model than the one that the audit started with."""

    code = "model_changed"


class ServerFailing(InputError):
    """The server of a model can be reached, but keeps failing."""

    code = "server_failing"


class RequestBudgetExceeded(InputError):
    """The audit needs more requests to the server of a model than it may send."""

    code = "request_budget_exceeded"


class MapsInvalid(InputError):
    """Uploaded maps cannot be used: wrong format, shape or image, or values that are not finite."""

    code = "maps_invalid"


class ExplainerFailing(InputError):
    """The code of another library or of the team failed while it made maps, or took too long."""

    code = "explainer_failing"


class ModelNotTrainable(InputError):
    """The weights of the model cannot be changed, or the training method is not made for it."""

    code = "model_not_trainable"


class TrainingDiverged(InputError):
    """The loss of a training is NaN or infinite, so its weights are of no use."""

    code = "training_diverged"


class BudgetTooSmall(InputError):
    """The budget of a training does not suffice for one epoch."""

    code = "budget_too_small"


class CheckpointInvalid(InputError):
    """A checkpoint is damaged, or belongs to another training."""

    code = "checkpoint_invalid"


class MemoryExhausted(InputError):
    """Even a single image does not fit into memory, so micro-batches cannot get smaller."""

    code = "memory_exhausted"


class NotApplicable(AuditcoreError):
    """A method does not apply to this model or image; reported as null, with this reason."""

    code = "not_applicable"


class ShapeError(AuditcoreError):
    """Two shapes that must match do not.

    Attributes:
        expected: What is required, in words or as a shape.
        actual: What was found.
    """

    code = "shape_error"

    def __init__(self, *, expected: object, actual: object) -> None:
        super().__init__(f"expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class AuditCancelled(AuditcoreError):
    """The audit was cancelled, between two micro-batches."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("the audit was cancelled")


class WorkInterrupted(AuditcoreError):
    """It was enough for now: what is done is kept, and the same call goes on from there."""

    code = "interrupted"

    def __init__(self) -> None:
        super().__init__("the work was interrupted; it goes on from what is kept")
