"""Weights from programs of `torch.export` (`.pt2`), without loading the program.

The archive stores every weight as raw bytes with a JSON description, and only these are read. The graph, the sample
inputs and pickled weights are not.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditcore.errors import ModelNotLoadable
from auditcore.models.loaders.torch_files import refuse_unusual_archives
from auditcore.models.zip_files import entries_of, refusing_damage

MOST_JSON_BYTES = 64 * 2**20
CONFIG_ENDING = "_weights_config.json"

_DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Numbers of `torch._export.serde.schema.ScalarType`; the file format fixes them."""


def is_exported(path: Path) -> bool:
    """Whether a file is a program of `torch.export`."""
    names = [entry.filename for entry in entries_of(path)]
    return any(name.endswith(CONFIG_ENDING) or name == "serialized_exported_program.json" for name in names)


def read_exported_weights(path: Path, *, field: str) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a program, by name, on the CPU.

    Args:
        path: A file that `torch.export.save` of torch 2.10 or later has written.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged or older, or a weight is not a plain tensor.
    """
    refuse_unusual_archives(path, field=field)
    damaged = "the weights of the exported program are damaged ({}); export it again"
    try:
        with refusing_damage(damaged, field=field), zipfile.ZipFile(path) as archive:
            config = _config(archive, field)
            folder = config.filename.rpartition("/")[0]
            entries = json.loads(archive.read(config))["config"]
            # tied weights name the same bytes, which are read once
            stored = {
                path_name: bytearray(archive.read(f"{folder}/{path_name}"))
                for path_name in {entry["path_name"] for entry in entries.values()}
            }
            return {
                str(name): _tensor(stored[entry["path_name"]], name, entry, field) for name, entry in entries.items()
            }
    # a damaged or hand-made file can be wrong in all these places
    except (KeyError, TypeError, AttributeError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelNotLoadable(damaged.format(first_line), field=field) from error


def _config(archive: zipfile.ZipFile, field: str) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename.endswith(CONFIG_ENDING)]
    if len(found) != 1 or found[0].file_size > MOST_JSON_BYTES:
        msg = "the program was exported by an older torch, or holds several models; export one with torch 2.10 or later"
        raise ModelNotLoadable(msg, field=field)
    return found[0]


def _tensor(stored: bytearray, name: str, entry: Mapping[str, Any], field: str) -> Tensor:
    meta = entry["tensor_meta"]
    if entry["use_pickle"] or meta["dtype"] not in _DTYPES:
        msg = f"weight {name} of the program is not a plain tensor; export the model before it is quantized or wrapped"
        raise ModelNotLoadable(msg, field=field)
    shape, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    dtype = _DTYPES[meta["dtype"]]
    if math.prod(shape) * dtype.itemsize > len(stored):
        # a stride of 0 can make a tensor of any size from a few bytes
        msg = f"weight {name} of the program claims more values than are stored; export it again"
        raise ModelNotLoadable(msg, field=field)
    if not stored:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(stored, dtype=dtype).as_strided(shape, strides, meta["storage_offset"]["as_int"])
