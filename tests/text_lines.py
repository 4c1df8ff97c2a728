"""A car maker's model: a package's ONNX graph for the direction of a line of text, and how the package calls it."""

from __future__ import annotations

import functools
import io
import sys
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

HAS_RELEASE = sys.version_info < (3, 13)
"""Whether the package has a release for this Python."""

PACKAGE = "rapidocr_onnxruntime"
PATH = "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
HEIGHT, WIDTH = 48, 192
UPRIGHT, TURNED = 0, 1
REFERENCE: dict[str, Any] = {
    "kind": "onnx",
    "uri": f"package:{PACKAGE}/{PATH}",
    "outputs": "probabilities",
    "preprocessing": {
        "resize": {"height": HEIGHT, "width": WIDTH},
        "fit": "squash",
        "crop": None,
        "antialias": False,
        "colors": "bgr",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def line(text: str, *, width: int, turned: bool) -> Image.Image:
    """Dark blue text on a yellow plate, 60 pixels high, so that the order of the colors matters."""
    plate = Image.new("RGB", (width, 60), (235, 205, 90))
    ImageDraw.Draw(plate).text((width // 2, 30), text, (20, 30, 110), ImageFont.load_default(36), anchor="mm")
    return plate.transpose(Image.Transpose.ROTATE_180) if turned else plate


def lines() -> dict[str, tuple[Image.Image, int]]:
    """File name -> a line of text, at least four times as wide as high, and its direction."""
    return {
        "wide.png": (line("Mannheim 14 km", width=420, turned=False), UPRIGHT),
        "turned.png": (line("Mannheim 14 km", width=420, turned=True), TURNED),
        "gray.png": (line("Werkstatt", width=300, turned=True).convert("L"), TURNED),
        # of the size of the input
        "small.png": (line("Speed 80", width=240, turned=False).resize((WIDTH, HEIGHT)), UPRIGHT),
    }


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@functools.cache
def session() -> onnxruntime.InferenceSession:
    """The graph as the team runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(files(PACKAGE) / PATH), options)


def predicted(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of both directions."""
    (probabilities,) = session().run(None, {"x": inputs})
    return probabilities


def preprocessed(image: Image.Image) -> NDArray[np.float32]:
    """The input (1,3,48,192) that the package makes of a file."""
    from rapidocr_onnxruntime.ch_ppocr_cls import TextClassifier  # noqa: PLC0415 - not on every Python
    from rapidocr_onnxruntime.utils import read_yaml  # noqa: PLC0415

    config = read_yaml(files(PACKAGE) / "config.yaml")["Cls"]
    config["model_path"] = str(files(PACKAGE) / PATH)
    rgb = np.asarray(image.convert("RGB"))
    return TextClassifier(config).resize_norm_img(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[None]


def occlusion(_model: nn.Module, images: Tensor, targets: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """The team's explainer: how much of the logarithm of the probability goes with each gray rectangle."""
    whole, places = images.numpy(), np.arange(len(images))
    rows = targets.numpy()
    before = np.log(predicted(whole))[places, rows]
    maps = np.zeros_like(whole[:, 0])
    for top in range(0, images.shape[2], height):
        for left in range(0, images.shape[3], width):
            hidden = whole.copy()
            hidden[:, :, top : top + height, left : left + width] = 0
            lost = before - np.log(predicted(hidden))[places, rows]
            maps[:, top : top + height, left : left + width] = lost[:, None, None]
    return maps
