"""What is said between an audit and this project's handler in TorchServe.

A request is a body of tensors in the safetensors format (`auditcore.tensor_files`). `inputs` are (N,3,S,S) normalized
images; the answer has `logits`, (N,classes). At `/explanations` there are `targets` (N,) int64 too, and the explainer
as JSON under the metadata `explainer`; the answer has `maps` (N,C,S,S) and `targets`, as uploaded maps are written. A
request with the header `X-Auditcore: describe` is answered with what is served.
"""

from __future__ import annotations

from typing import Literal, final

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import Preprocessing, Scores

HEADER = "X-Auditcore"
DESCRIBE = "describe"
TENSORS = "application/octet-stream"
INPUTS, LOGITS, EXPLAINER = "inputs", "logits", "explainer"


@final
class ServedDescription(Contract):
    """What the handler says of the model it serves.

    Attributes:
        format: Of these messages.
        auditcore: Version that the handler belongs to.
        weights: Digest of the weights, as an audit of the model itself would report it.
        explainers: Kinds that can explain the model.
    """

    format: Literal[1] = 1
    auditcore: str
    name: str
    version: str
    weights: Sha256
    classes: int
    scores: Scores
    preprocessing: Preprocessing
    explainers: tuple[str, ...]
