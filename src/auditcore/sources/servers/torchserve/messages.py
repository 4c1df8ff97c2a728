"""Messages between an audit and this project's handler in TorchServe.

A request is a body of tensors in the safetensors format (`auditcore.tensor_files`). `inputs` are (N,3,S,S) normalized
images; the answer has `logits`, (N,classes). At `/explanations` there are `targets` (N,) int64 too, and the explainer
as JSON under the metadata `explainer`; the answer has `maps` (N,C,S,S) and `targets`, as uploaded maps are written. To
a request with the header `X-Auditcore: describe` the handler answers with a description of its model.
"""

from __future__ import annotations

from typing import Literal, final

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import Scores
from auditcore.contracts.preprocessing import Preprocessing

HEADER = "X-Auditcore"
DESCRIBE = "describe"
TENSORS = "application/octet-stream"
INPUTS, LOGITS, EXPLAINER = "inputs", "logits", "explainer"


@final
class ServedDescription(Contract):
    """The handler's description of its model.

    Attributes:
        format: Version of these messages.
        auditcore: Version of auditcore that the handler belongs to.
        weights: Digest of the weights, as an audit of the loaded model reports it.
        explainers: Kinds of explainers that can explain the model.
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
