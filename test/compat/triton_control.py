"""tritonclient against a daemon: metadata, configuration, statistics, index.

    triton_control.py TARGET
"""

import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from checks import SAMPLES, Checks, assert_failed, each

check = Checks("tritonclient")
client = triton.InferenceServerClient(sys.argv[1])


def infer(rows):
    tensor = triton.InferInput("x", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return client.infer("versions", [tensor], model_version="1")


with check("server: live, ready, metadata with its extensions"):
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name and metadata.version, metadata
    assert "statistics" in metadata.extensions and "system_shared_memory" in metadata.extensions, metadata

with check("models: ready by name and by version"):
    assert client.is_model_ready("versions") and client.is_model_ready("versions", "1")
    assert not client.is_model_ready("versions", "9") and not client.is_model_ready("nope")

with check("metadata and configuration, every datatype"):
    for datatype, guard in each(SAMPLES):
        with guard:
            model = f"identity_{datatype.lower()}"
            (tensor,) = client.get_model_metadata(model).inputs
            assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", datatype, [-1, -1]), tensor
            config = client.get_model_config(model).config
            named = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
            assert model_config_pb2.DataType.Name(config.input[0].data_type) == named, config
            assert list(config.output[0].dims) == [-1] and config.max_batch_size > 1, config

with check("configuration of a model without a batch dimension"):
    config = client.get_model_config("fixed").config
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [2, 3], config
    assert list(client.get_model_metadata("fixed").inputs[0].shape) == [2, 3]

with check("as JSON"):
    assert client.get_model_metadata("versions", as_json=True)["versions"] == ["1", "2"]
    assert client.get_model_config("versions", as_json=True)["config"]["name"] == "versions"

with check("statistics count requests, items and nanoseconds by phase"):

    def statistics():
        (of_model,) = client.get_inference_statistics("versions", "1").model_stats
        return of_model

    before = statistics()
    for _ in range(3):
        infer(np.ones([2, 4], np.float32))
    assert_failed(lambda: infer(np.ones([2, 5], np.float32)), InferenceServerException, "INVALID_ARGUMENT")
    after = statistics()
    assert after.inference_count - before.inference_count == 6, after
    assert 1 <= after.execution_count - before.execution_count <= 3, after
    assert after.last_inference > before.last_inference, after
    stats = after.inference_stats
    assert stats.success.count - before.inference_stats.success.count == 3, after
    assert stats.fail.count - before.inference_stats.fail.count == 1, after
    counts = {getattr(stats, phase).count for phase in ("queue", "compute_input", "compute_infer", "compute_output")}
    assert counts == {stats.success.count}, after
    assert stats.compute_infer.ns > before.inference_stats.compute_infer.ns, after
    assert sum(batch.compute_infer.count for batch in after.batch_stats) == after.execution_count, after

with check("statistics of all models"):
    names = {model.name for model in client.get_inference_statistics().model_stats}
    assert {"identity_bytes", "pair", "digits"} <= names, names

with check("repository index"):
    index = {(model.name, model.version): model.state for model in client.get_model_repository_index().models}
    assert index[("versions", "1")] == index[("versions", "2")] == "READY", index

with check("what is not there says NOT_FOUND"):
    calls = (client.get_model_metadata, client.get_model_config, client.get_inference_statistics)
    for call, guard in each(calls):
        with guard:
            assert_failed(lambda: call("nope"), InferenceServerException, "NOT_FOUND", "'nope'")

with check("load and unload are refused, with a sentence, where models are not controlled by request"):
    for call, guard in each((client.load_model, client.unload_model)):
        with guard:
            assert_failed(lambda: call("pair"), InferenceServerException, None, "explicit")

with check("trace and log settings say that they are not offered"):
    for call, guard in each((client.get_trace_settings, client.get_log_settings)):
        with guard:
            assert_failed(call, InferenceServerException, "UNIMPLEMENTED")
