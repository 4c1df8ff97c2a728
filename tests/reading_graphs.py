"""ONNX graphs whose output would reveal the contents of a file of the process that computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def external(location: str = ".env", offset: int = 0) -> Any:
    """One byte of a file."""
    tensor = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": str(offset), "length": "1"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def branch(tensor: Any, *, initializer: bool) -> Any:
    output = [helper.make_tensor_value_info("inner", TensorProto.UINT8, [1])]
    if initializer:
        return helper.make_graph([helper.make_node("Identity", [tensor.name], ["inner"])], "b", [], output, [tensor])
    return helper.make_graph([helper.make_node("Constant", [], ["inner"], value=tensor)], "b", [], output)


def reader(tensor: Any, how: str) -> Any:
    """A classifier of 256 classes that answers the value of a byte."""
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    branches = {f"{name}_branch": branch(tensor, initializer=how == "if initializer") for name in ("then", "else")}
    first = {
        "constant": [helper.make_node("Constant", [], ["byte"], value=tensor)],
        "if constant": [helper.make_node("If", ["yes"], ["byte"], **branches)],
        "if initializer": [helper.make_node("If", ["yes"], ["byte"], **branches)],
    }[how]
    nodes = [
        *first,
        helper.make_node("Cast", ["byte"], ["index"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["index", "depth", "values"], ["row"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "row"], ["scores"]),
    ]
    numbers = {
        "depth": np.array(256, np.int64),
        "values": np.array([0, 9], np.float32),
        "zeros": np.zeros((3, 256), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 256])],
        [*(numpy_helper.from_array(value, name) for name, value in numbers.items()), yes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
