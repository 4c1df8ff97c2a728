"""A small untrained model of torchvision, as a request names it, for tests to which its numbers do not matter."""

from __future__ import annotations

from typing import Any

SMALL_MODEL: dict[str, Any] = {
    "kind": "torchvision",
    "name": "mobilenet_v3_small",
    "weights": {"uri": "random:1"},
    "classes": 5,
    "preprocessing": {"resize": 32, "crop": 32},
}
