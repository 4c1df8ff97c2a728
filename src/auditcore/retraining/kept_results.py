"""Results of stages among the kept files."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from auditcore.contracts.contract import Contract
from auditcore.contracts.retraining.kept import CountedWork
from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFiles

Result = TypeVar("Result", bound=Contract)

_COUNTED = "counted/"


class MeasuredTensors(NamedTuple):
    """What a stage has measured.

    Attributes:
        tensors: By name, on the CPU.
        counted: What it has cost.
    """

    tensors: dict[str, Tensor]
    counted: CountedWork


def read_result(kept: KeptFiles, name: str, contract: type[Result]) -> Result | None:
    """A kept result; None if it is not there.

    Args:
        kept: Where it is kept.
        name: Name of the file.
        contract: What it is.

    Raises:
        InvalidRequest: The file is damaged.
    """
    data = kept.read(name)
    if data is None:
        return None
    try:
        return contract.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(name) from error


def keep_result(kept: KeptFiles, name: str, result: Contract) -> None:
    """Keep a result.

    Args:
        kept: Where to keep it.
        name: Name of the file.
        result: What to keep.
    """
    kept.keep(name, result.model_dump_json(indent=2).encode())


def read_tensors(kept: KeptFiles, name: str) -> MeasuredTensors | None:
    """Kept tensors; None if they are not there.

    Raises:
        InvalidRequest: The file is damaged.
    """
    data = kept.read(name)
    if data is None:
        return None
    try:
        found = safetensors.torch.load(data)
        costs = {field: found.pop(f"{_COUNTED}{field}").item() for field in CountedWork.model_fields}
        return MeasuredTensors(found, CountedWork.model_validate(costs))
    except (safetensors.SafetensorError, KeyError, ValidationError) as error:
        raise _damaged(name) from error


def keep_tensors(kept: KeptFiles, name: str, measured: MeasuredTensors) -> None:
    """Keep tensors and what they have cost in one file of safetensors.

    Args:
        kept: Where to keep them.
        name: Name of the file.
        measured: What to keep.
    """
    costs = {
        f"{_COUNTED}{field}": torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
        for field, value in measured.counted.model_dump().items()
    }
    values = {key: value.detach().cpu().contiguous().clone() for key, value in measured.tensors.items()}
    kept.keep(name, safetensors.torch.save(values | costs))


def _damaged(name: str) -> InvalidRequest:
    msg = f"the kept file {name} is damaged; remove it, and go on with the same folder"
    return InvalidRequest(msg, field="out")
