"""tritonclient against a daemon that loads and unloads by request and maps errors as Triton does.

    triton_explicit.py TARGET
"""

import sys
import threading

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from checks import Checks, assert_failed, assert_same

TARGET = sys.argv[1]
check = Checks("tritonclient")
client = triton.InferenceServerClient(TARGET)
ROWS = np.array([[1, 2, 3, 4]], np.float32)


def infer(model, using=client, **options):
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(ROWS)
    return using.infer(model, [tensor], **options).as_numpy("y")


def states():
    return {model.name: model.state for model in client.get_model_repository_index().models}


with check("explicit control: nothing is loaded at first"):
    assert not client.is_model_ready("first") and not client.is_model_ready("second")
    assert set(states()) == {"first", "second"}, states()
    assert len(client.get_model_repository_index(as_json=True)["models"]) == 2
    assert_failed(lambda: infer("first"), InferenceServerException, "UNAVAILABLE", "'first'")

with check("explicit control: load, infer, unload"):
    client.load_model("first")
    assert client.is_model_ready("first") and states()["first"] == "READY"
    assert_same(infer("first"), ROWS)
    client.unload_model("first")
    assert not client.is_model_ready("first")
    assert_failed(lambda: infer("first"), InferenceServerException, "UNAVAILABLE", "'first'")

with check("explicit control: another model loads and unloads while one answers"):
    client.load_model("first")
    stop = threading.Event()
    failures = []
    answered = [0]

    def traffic():
        with triton.InferenceServerClient(TARGET) as own:
            while not stop.is_set():
                try:
                    assert_same(infer("first", own), ROWS)
                    answered[0] += 1
                except Exception as error:
                    failures.append(error)

    thread = threading.Thread(target=traffic)
    thread.start()
    for _ in range(3):
        client.load_model("second")
        assert_same(infer("second"), ROWS + 1)
        client.load_model("first")
        client.unload_model("second")
    stop.set()
    thread.join()
    assert not failures, f"{len(failures)} of {answered[0] + len(failures)} failed: {failures[0]}"
    assert answered[0] > 0

with check("explicit control: an unknown model can't be loaded"):
    assert_failed(lambda: client.load_model("nope"), InferenceServerException, None, "nope")

with check("errors as Triton maps them: a missed deadline is UNAVAILABLE"):
    # One microsecond: passed before anything can run.
    assert_failed(lambda: infer("first", timeout=1), InferenceServerException, "UNAVAILABLE", "deadline")
