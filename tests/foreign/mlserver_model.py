"""A runtime for MLServer, run in its own environment: an ONNX graph of the digits network.

Parameters of the model's settings: `outputs` is logits or probabilities; `noise` is added to every answer; `datatype`
of the answer. A request with a second input, the classes, is answered with maps.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from half_occlusion import half_occlusion
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, ResponseOutput

NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        self._extra = self.settings.parameters.extra or {}
        self._random = np.random.default_rng(1)
        datatype = self._extra.get("datatype", "FP32")
        self.inputs = [MetadataTensor(name="images", datatype="FP32", shape=[-1, 3, 32, 32])]
        self.outputs = [MetadataTensor(name="scores", datatype=datatype, shape=[-1, 10])]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        images = np.array(given.data, dtype=np.float32).reshape(given.shape)
        if len(payload.inputs) > 1:
            maps = half_occlusion(self._session, images, list(payload.inputs[1].data))
            output = ResponseOutput(
                name="maps", shape=list(maps.shape), datatype="FP32", data=maps.astype(float).ravel().tolist()
            )
            return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
        (scores,) = self._session.run(None, {"images": images})
        scores = scores + self._extra.get("noise", 0.0) * self._random.standard_normal(scores.shape)
        if self._extra.get("outputs") == "probabilities":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        datatype = self._extra.get("datatype", "FP32")
        values = scores.astype(NUMPY[datatype])
        output = ResponseOutput(
            name="scores", shape=list(values.shape), datatype=datatype, data=values.ravel().tolist()
        )
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
