"""tritonclient against a daemon that serves a repository written for Triton, as it is.

    triton_repository.py TARGET
"""

import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from checks import Checks, assert_failed, assert_same

check = Checks("tritonclient")
client = triton.InferenceServerClient(sys.argv[1])
ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)


def infer(model, values, datatype, version=""):
    tensor = triton.InferInput("x", values.shape, datatype)
    tensor.set_data_from_numpy(values)
    return client.infer(model, [tensor], model_version=version).as_numpy("y")


with check("Triton's repository: every model of it is ready"):
    assert client.is_server_ready()
    for model, version in (("adder", "1"), ("adder", "3"), ("doubler", "1"), ("texts", "1")):
        assert client.is_model_ready(model, version), f"{model} {version}"

with check("Triton's repository: max_batch_size, dims and version_policy hold"):
    config = client.get_model_config("adder").config
    assert config.max_batch_size == 8 and list(config.input[0].dims) == [4], config
    metadata = client.get_model_metadata("adder")
    assert list(metadata.versions) == ["1", "3"] and list(metadata.inputs[0].shape) == [-1, 4], metadata
    assert_same(infer("adder", ROWS, "FP32", "1"), ROWS)
    assert_same(infer("adder", ROWS, "FP32"), ROWS + 1)
    nine = np.zeros([9, 4], np.float32)
    assert_failed(lambda: infer("adder", nine, "FP32"), InferenceServerException, "INVALID_ARGUMENT", "<= 8")

with check("Triton's repository: a file of another name, without a batch dimension"):
    rows = ROWS.reshape(-1)[:6].reshape(2, 3)
    assert_same(infer("doubler", rows, "FP32"), rows * 2)
    assert client.get_model_config("doubler").config.max_batch_size == 0

with check("Triton's repository: texts, on CPU replicas"):
    texts = np.array([[b"one", b"two"], [b"three", b""]], object)
    assert_same(infer("texts", texts, "BYTES"), texts)
