"""Logits from what a model returns: from probabilities or their logarithms, and from the one column of a binary model.

Sources: for p = softmax(z), log p differs from z by a constant per image, so softmax(log p) = p. For p = sigmoid(z),
z = log p - log(1 - p). A model of one column z is the binary classifier sigmoid(z) = softmax((-z/2, z/2))[1].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs
from auditcore.errors import ModelOutputInvalid

FIELD = "model.outputs"

SMALLEST = torch.finfo(torch.float32).tiny
"""Smaller probabilities count as this one, because the logarithm of 0 is not finite."""

SUM_TOLERANCE = 1e-3
"""How far the sum of the probabilities of softmax may be from 1, because servers round them."""


def to_logits(returned: Any, *, outputs: Outputs, scores: Scores, columns: int) -> Any:  # noqa: ANN401 - see below
    """Return logits whose softmax or sigmoid are the probabilities of the model; differentiable.

    One column becomes two classes: class 1 is the positive one, class 0 the other. Both logits depend on the image, so
    both classes have explanations.

    Args:
        returned: What the model returned, (N,columns), or its symbol while torch.fx traces.
        outputs: What the columns are.
        scores: How logits become probabilities.
        columns: Number of columns, which is given because torch.fx could not follow a decision about it.

    Returns:
        Logits (N,classes).
    """
    binary = columns == 1
    if outputs == "logits":
        logits = returned
    elif scores == "softmax" and not binary:
        logits = returned if outputs == "log_probabilities" else returned.clamp_min(SMALLEST).log()
    elif outputs == "probabilities":
        # 1 - p is exact for p above a half, and p is exact below
        wide = returned.double().clamp(SMALLEST, math.nextafter(1.0, 0.0))
        logits = torch.logit(wide).float()
    else:
        wide = returned.double().clamp(math.log(SMALLEST), math.log(math.nextafter(1.0, 0.0)))
        logits = (wide - torch.log(-torch.expm1(wide))).float()
    if not binary:
        return logits
    # sigmoid reads each logit by itself, softmax the difference of both
    half = logits if scores == "sigmoid" else logits / 2
    return torch.cat((-half, half), dim=1)


def require_declared(returned: Float[Tensor, "image column"], *, outputs: Outputs, scores: Scores) -> None:
    """Check that outputs are what they are declared to be. This reads values, so it waits for the device.

    Raises:
        ModelOutputInvalid: They are not; the message says what they look like.
    """
    if outputs == "logits":
        if has_rows_of_softmax(returned):
            msg = "the outputs are declared as logits, but every row sums to 1; set `outputs` to `probabilities`"
            raise ModelOutputInvalid(msg, field=FIELD)
        if has_rows_of_softmax(returned / 100):
            msg = (
                "the outputs are declared as logits, but every row sums to 100, so they are probabilities in percent; "
                "wrap the model so that it divides them by 100, and set `outputs` to `probabilities`"
            )
            raise ModelOutputInvalid(msg, field=FIELD)
        return
    probabilities = returned if outputs == "probabilities" else returned.double().exp()
    low, high = float(returned.min()), float(returned.max())
    lowest, highest = (0.0, 1 + SUM_TOLERANCE) if outputs == "probabilities" else (-math.inf, SUM_TOLERANCE)
    if not (low >= lowest and high <= highest):
        named = outputs.replace("_", " ")
        msg = (
            f"the outputs are declared as {named}, but range from {low:g} to {high:g}; set `outputs` to "
            "`logits`, or check the preprocessing"
        )
        raise ModelOutputInvalid(msg, field=FIELD)
    worst = float((probabilities.double().sum(dim=1) - 1).abs().max())
    if scores == "softmax" and returned.shape[1] > 1 and not worst < SUM_TOLERANCE:
        msg = (
            f"the outputs are declared as softmax probabilities, but the sum of an image's classes differs from 1 by "
            f"{worst:.3g}; set `outputs` to `logits`, or `scores` to `sigmoid`"
        )
        raise ModelOutputInvalid(msg, field=FIELD)


def refuse_probabilities(operation: str, scores: Scores, *, binary: bool) -> None:
    """Refuse a model declared to return logits whose last operation makes probabilities.

    Args:
        operation: Name of the operation in lower case, without underscores.
        scores: How logits become probabilities.
        binary: Whether the model returns one column.

    Raises:
        ModelOutputInvalid: It does.
    """
    made = {
        "softmax": "probabilities",
        "sigmoid": "probabilities",
        "hardsigmoid": "probabilities",
        "logsigmoid": "log_probabilities",
        # softmax of log-probabilities gives the probabilities again; sigmoid does not
        "logsoftmax": "log_probabilities" if scores == "sigmoid" else None,
    }.get(operation)
    if made is None:
        return
    also = " and `scores` to `sigmoid`" if "sigmoid" in operation and not binary and scores == "softmax" else ""
    msg = (
        f"the outputs are declared as logits, but the model ends with {operation}, so they are "
        f"{made.replace('_', '-')}; set `outputs` to `{made}`{also}"
    )
    raise ModelOutputInvalid(msg, field=FIELD)


def has_rows_of_softmax(returned: Float[Tensor, "image column"]) -> bool:
    """Return whether every row is a distribution over several classes: at least 0, with the sum 1."""
    return (
        returned.shape[1] > 1
        and float(returned.min()) >= 0
        and float((returned.sum(dim=1) - 1).abs().max()) < SUM_TOLERANCE / 100
    )
