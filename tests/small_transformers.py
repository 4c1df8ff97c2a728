"""Small vision transformers whose weights and images are the same under every version of PyTorch."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
import torchvision
import transformers
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
SIDE, CLASSES = 8, 3
TARGETS = torch.tensor([2, 0])


def torchvision_vit() -> torchvision.models.VisionTransformer:
    """Four patches and a class token, two blocks of two heads."""
    return torchvision.models.VisionTransformer(
        image_size=SIDE, patch_size=4, num_layers=2, num_heads=2, hidden_dim=6, mlp_dim=10, num_classes=CLASSES
    )


def transformers_vit() -> transformers.ViTForImageClassification:
    """The same shapes."""
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=SIDE,
            patch_size=4,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_size=6,
            intermediate_size=10,
            num_labels=CLASSES,
            attn_implementation="eager",
        )
    )


def fill(model: Model, renamed: Mapping[str, str] = MappingProxyType({})) -> Model:
    """Give every parameter values from a stream that belongs to its name and that NumPy never changes.

    Args:
        model: The network.
        renamed: Part of a name -> how it is called in the newest version of the library.
    """
    for name, parameter in model.named_parameters():
        for old, new in renamed.items():
            name = name.replace(old, new)  # noqa: PLW2901 - one replacement after the other
        stream = np.random.RandomState(zlib.crc32(name.encode()))
        parameter.data = torch.from_numpy(stream.standard_normal(tuple(parameter.shape)) * 0.6).float()
    return model.eval()


def images() -> Tensor:
    """Two normalized images."""
    return torch.from_numpy(np.random.RandomState(6).standard_normal((2, 3, SIDE, SIDE))).float()
