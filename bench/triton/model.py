"""A model of Triton's Python backend: one ONNX Runtime session, and each batch that Triton formed in one run of it."""
import os
import pathlib

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def session():
    """Of the ONNX file of the same name and version in the repository that the daemon serves."""
    version = pathlib.Path(__file__).parent
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = pathlib.Path(os.environ["ONNX_REPOSITORY"], version.parent.name, version.name, "model.onnx")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def tensor(node):
    """As configurations have it: without the batch dimension, and with one other at least."""
    dims = [dim if isinstance(dim, int) else -1 for dim in node.shape[1:]] or [1]
    return {"name": node.name, "data_type": TYPES[node.type], "dims": dims}


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        onnx = session()
        for node in onnx.get_inputs():
            config.add_input(tensor(node))
        for node in onnx.get_outputs():
            config.add_output(tensor(node))
        return config

    def initialize(self, args):
        self.session = session()
        self.inputs = [node.name for node in self.session.get_inputs()]

    def execute(self, requests):
        parts = [[pb.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs] for request in requests]
        columns = [column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*parts)]
        names = sorted({name for request in requests for name in request.requested_output_names()})
        results = self.session.run(names, dict(zip(self.inputs, columns)))
        outputs = {name: result if result.ndim > 1 else result[:, None] for name, result in zip(names, results)}
        responses = []
        first = 0
        for request, part in zip(requests, parts):
            last = first + len(part[0])
            tensors = [pb.Tensor(name, outputs[name][first:last]) for name in request.requested_output_names()]
            responses.append(pb.InferenceResponse(output_tensors=tensors))
            first = last
        return responses
