"""A model for KServe's Python server, run in its own environment: an ONNX graph of the digits network."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from half_occlusion import half_occlusion
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._session = onnxruntime.InferenceSession(path)
        self.ready = True

    async def get_input_types(self) -> list[dict[str, object]]:
        return [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]

    async def get_output_types(self) -> list[dict[str, object]]:
        return [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]

    async def predict(self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers=None):  # noqa: ANN001, ANN201, ARG002
        (scores,) = self._session.run(None, {"images": payload.inputs[0].as_numpy().astype(np.float32)})
        output = InferOutput(name="scores", shape=list(scores.shape), datatype="FP32")
        binary = bool(payload.request_outputs and payload.request_outputs[0].parameters)
        output.set_data_from_numpy(scores, binary_data=binary)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])

    async def explain(self, payload: dict, headers: dict[str, str] | None = None) -> dict:  # noqa: ARG002 - KServe's name
        images = np.array([one["data"] for one in payload["instances"]], dtype=np.float32)
        targets = [one["target"] for one in payload["instances"]]
        return {"explanations": half_occlusion(self._session, images, targets).tolist()}


if __name__ == "__main__":
    path, port = sys.argv[1:]
    ModelServer(http_port=int(port), enable_grpc=False, workers=1).start([OnnxModel("digits", path)])
