"""What a model returns, and which part of it are the class scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

Outputs = Literal["logits", "probabilities", "log_probabilities"]
"""What a model returns. Logits are computed from probabilities, so that softmax or sigmoid returns them again."""

Select = Annotated[int, Field(ge=-16, le=15)] | Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""Position in a tuple or list, or key of a dict or name of an attribute."""

OUTPUTS_ARE = "What the model returns. One column is a binary classifier: class 1 is the positive class."
SELECTED = (
    "Which entry holds the class scores, for a model that returns several tensors: a position in a tuple, or a name. "
    "The only tensor, or the entry `logits`, if null."
)
