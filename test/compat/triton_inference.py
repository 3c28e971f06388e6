"""tritonclient against a daemon: inference in each of its ways, for each datatype.

    triton_inference.py TARGET
"""

import asyncio
import base64
import os
import queue
import sys
import threading
from functools import partial

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, triton_to_np_dtype

from checks import SAMPLES, Checks, assert_error, assert_failed, assert_same, each

TARGET = sys.argv[1]
WAIT_S = 60
check = Checks("tritonclient")
client = triton.InferenceServerClient(TARGET)


def inputs_of(module, datatype):
    tensor = module.InferInput("x", SAMPLES[datatype].shape, datatype)
    tensor.set_data_from_numpy(SAMPLES[datatype])
    return [tensor]


def model_of(datatype):
    return f"identity_{datatype.lower()}"


def vector(values, name="x"):
    array = np.asarray(values, np.float32)
    tensor = triton.InferInput(name, array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def infer_fails(status, *words, model="identity_fp32", inputs=None, **options):
    call = partial(client.infer, model, [vector([[1, 2]])] if inputs is None else inputs, **options)
    assert_failed(call, InferenceServerException, status, *words)


with check("infer, sync, every datatype"):
    for datatype, guard in each(SAMPLES):
        with guard:
            result = client.infer(model_of(datatype), inputs_of(triton, datatype), request_id=f"r-{datatype}")
            assert_same(result.as_numpy("y"), SAMPLES[datatype])
            response = result.get_response()
            assert (response.id, response.model_version) == (f"r-{datatype}", "1"), response

with check("infer, async with callbacks, every datatype"):
    answers = queue.Queue()
    for datatype in SAMPLES:
        client.async_infer(
            model_of(datatype),
            inputs_of(triton, datatype),
            callback=lambda result, error, datatype=datatype: answers.put((datatype, result, error)),
        )
    collected = {datatype: (result, error) for datatype, result, error in (answers.get(timeout=WAIT_S) for _ in SAMPLES)}
    for datatype, guard in each(SAMPLES):
        with guard:
            result, error = collected[datatype]
            assert error is None, error
            assert_same(result.as_numpy("y"), SAMPLES[datatype])

with check("infer, stream, every datatype, matched by id"):
    answers = queue.Queue()
    with triton.InferenceServerClient(TARGET) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)))
        for datatype in SAMPLES:
            streaming.async_stream_infer(model_of(datatype), inputs_of(triton, datatype), request_id=datatype)
        collected = {}
        for _ in SAMPLES:
            result, error = answers.get(timeout=WAIT_S)
            assert error is None, error
            collected[result.get_response().id] = result
        streaming.stop_stream()
    for datatype, guard in each(SAMPLES):
        with guard:
            assert_same(collected[datatype].as_numpy("y"), SAMPLES[datatype])


async def with_asyncio():
    async with triton_aio.InferenceServerClient(TARGET) as aio:
        with check("asyncio: infer, every datatype at once"):
            results = await asyncio.gather(
                *(aio.infer(model_of(datatype), inputs_of(triton_aio, datatype)) for datatype in SAMPLES)
            )
            for (datatype, guard), result in zip(each(SAMPLES), results):
                with guard:
                    assert_same(result.as_numpy("y"), SAMPLES[datatype])

        with check("asyncio: stream, every datatype"):

            async def requests():
                for datatype in SAMPLES:
                    inputs = inputs_of(triton_aio, datatype)
                    yield {"model_name": model_of(datatype), "inputs": inputs, "request_id": datatype}

            seen = set()
            async for result, error in aio.stream_infer(requests()):
                assert error is None, error
                datatype = result.get_response().id
                assert_same(result.as_numpy("y"), SAMPLES[datatype])
                seen.add(datatype)
            assert seen == set(SAMPLES), seen

        with check("asyncio: server and model state"):
            assert await aio.is_server_ready() and await aio.is_model_ready("identity_fp32")
            assert not await aio.is_model_ready("nope")


asyncio.run(with_asyncio())


def through_shared_memory(datatype, infer):
    """Input and output of one request in regions of their own, each behind an offset."""
    values = SAMPLES[datatype]
    # A text tensor travels as what it is on the wire: each element's length and its bytes.
    stored = serialize_byte_tensor(values) if datatype == "BYTES" else values
    size = len(stored.item()) if datatype == "BYTES" else values.nbytes
    offset = 64
    regions = {}
    try:
        for name in ("in", "out"):
            key = f"/slackline-compat-{os.getpid()}-{datatype}-{name}"
            regions[name] = shm.create_shared_memory_region(name, key, offset + size, create_only=True)
            client.register_system_shared_memory(name, key, offset + size)
        assert set(client.get_system_shared_memory_status().regions) == {"in", "out"}
        shm.set_shared_memory_region(regions["in"], [stored], offset)
        tensor = triton.InferInput("x", values.shape, datatype)
        tensor.set_shared_memory("in", size, offset)
        output = triton.InferRequestedOutput("y")
        output.set_shared_memory("out", size, offset)
        result = infer(model_of(datatype), [tensor], [output])
        described = result.get_output("y")
        assert list(described.shape) == list(values.shape), described
        assert described.parameters["shared_memory_region"].string_param == "out", described
        assert list(result.get_response().raw_output_contents) == [b""], "the bytes came in the message too"
        dtype = triton_to_np_dtype(datatype)
        assert_same(np.array(shm.get_contents_as_numpy(regions["out"], dtype, list(values.shape), offset)), values)
    finally:
        client.unregister_system_shared_memory()
        for region in regions.values():
            shm.destroy_shared_memory_region(region)


with check("system shared memory, sync, every datatype"):
    for datatype, guard in each(SAMPLES):
        with guard:
            through_shared_memory(datatype, lambda model, inputs, outputs: client.infer(model, inputs, outputs=outputs))
    assert len(client.get_system_shared_memory_status().regions) == 0

with check("system shared memory, stream, every datatype"):
    answers = queue.Queue()
    with triton.InferenceServerClient(TARGET) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)))

        def by_stream(model, inputs, outputs):
            streaming.async_stream_infer(model, inputs, outputs=outputs)
            result, error = answers.get(timeout=WAIT_S)
            assert error is None, error
            return result

        for datatype, guard in each(SAMPLES):
            with guard:
                through_shared_memory(datatype, by_stream)

with check("system shared memory: one output in a region, the other in the message"):
    key = f"/slackline-compat-{os.getpid()}-mixed"
    region = shm.create_shared_memory_region("mixed", key, 64, create_only=True)
    try:
        client.register_system_shared_memory("mixed", key, 64)
        a = vector([[1, 2, 3], [4, 5, 6]], "a")
        b = triton.InferInput("b", [2, 3], "FP32")
        shm.set_shared_memory_region(region, [np.full([2, 3], 10, np.float32)])
        b.set_shared_memory("mixed", 24)
        to_region = triton.InferRequestedOutput("sum")
        to_region.set_shared_memory("mixed", 24, 32)
        result = client.infer("pair", [a, b], outputs=[to_region, triton.InferRequestedOutput("product")])
        sums = shm.get_contents_as_numpy(region, np.float32, [2, 3], 32)
        assert_same(np.array(sums), np.array([[11, 12, 13], [14, 15, 16]], np.float32))
        assert_same(result.as_numpy("product"), np.array([[60], [150]], np.float32))
    finally:
        client.unregister_system_shared_memory("mixed")
        shm.destroy_shared_memory_region(region)

with check("system shared memory: errors"):
    missing = "/slackline-compat-nothing"
    register = partial(client.register_system_shared_memory, "nothing", missing, 64)
    assert_failed(register, InferenceServerException, "NOT_FOUND", missing)
    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_shared_memory("unregistered", 8)
    infer_fails("NOT_FOUND", "unregistered", inputs=[tensor])

with check("compression: gzip and deflate"):
    big = np.arange(60_000, dtype=np.float32).reshape(2, -1)
    for algorithm, guard in each(("gzip", "deflate")):
        with guard:
            result = client.infer("identity_fp32", [vector(big)], compression_algorithm=algorithm)
            assert_same(result.as_numpy("y"), big)
            answers = queue.Queue()
            with triton.InferenceServerClient(TARGET) as streaming:
                streaming.start_stream(lambda result, error: answers.put((result, error)), compression_algorithm=algorithm)
                streaming.async_stream_infer("identity_fp32", [vector(big)])
                result, error = answers.get(timeout=WAIT_S)
                assert error is None, error
                assert_same(result.as_numpy("y"), big)

with check("a message of 64 MiB"):
    big = np.arange(1 << 24, dtype=np.float32).reshape(16, -1)
    assert_same(client.infer("identity_fp32", [vector(big)]).as_numpy("y"), big)

with check("many callers at once"):
    errors = []

    def caller(number):
        for step in range(25):
            rows = np.full([1 + number % 3, 4], number * 100 + step, np.float32)
            try:
                assert_same(client.infer("identity_fp32", [vector(rows)]).as_numpy("y"), rows)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=caller, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]

with check("some of the outputs, by name"):
    pair = [vector([[1, 2, 3]], "a"), vector([[4, 5, 6]], "b")]
    result = client.infer("pair", pair, outputs=[triton.InferRequestedOutput("product")])
    assert_same(result.as_numpy("product"), np.array([[32]], np.float32))
    assert result.as_numpy("sum") is None
    assert {output.name for output in client.infer("pair", pair).get_response().outputs} == {"sum", "product"}

with check("versions by number, and the newest without one"):
    rows = np.array([[1, 2, 3, 4]], np.float32)
    for version, guard in each(("1", "2", "")):
        with guard:
            result = client.infer("versions", [vector(rows)], model_version=version)
            assert_same(result.as_numpy("y"), rows if version == "1" else rows + 1)
            assert result.get_response().model_version == (version or "2")

with check("errors carry status and a sentence"):
    two = vector([[1, 2]])
    cases = {
        "unknown model": lambda: infer_fails("NOT_FOUND", "unknown model: 'nope'", model="nope"),
        "unknown version": lambda: infer_fails("NOT_FOUND", "version 7", model_version="7"),
        "wrong shape": lambda: infer_fails("INVALID_ARGUMENT", "unexpected shape for input 'x'", model="versions"),
        "wrong type": lambda: infer_fails("INVALID_ARGUMENT", "'FP32'", "'INT64'", model="identity_int64"),
        "unknown input": lambda: infer_fails(
            "INVALID_ARGUMENT", "unexpected inference input 'z'", inputs=[vector([[1, 2]], "z")]
        ),
        "missing input": lambda: infer_fails(
            "INVALID_ARGUMENT", "expected 2 inputs but got 1", model="pair", inputs=[vector([[1, 2, 3]], "a")]
        ),
        "unknown output": lambda: infer_fails(
            "INVALID_ARGUMENT", "unexpected inference output 'z'", outputs=[triton.InferRequestedOutput("z")]
        ),
        "too many items": lambda: infer_fails(
            "INVALID_ARGUMENT", "batch-size must be <=", inputs=[vector(np.zeros([1000, 2]))]
        ),
        "a sequence": lambda: infer_fails("INVALID_ARGUMENT", "sequence", sequence_id=5, sequence_start=True),
        "classification": lambda: infer_fails(
            "INVALID_ARGUMENT", "classification", outputs=[triton.InferRequestedOutput("y", class_count=2)]
        ),
        "CUDA shared memory": lambda: assert_failed(
            lambda: client.register_cuda_shared_memory("c", base64.b64encode(b"handle"), 0, 64),
            InferenceServerException,
            "UNIMPLEMENTED",
            "system shared memory",
        ),
    }
    for case, guard in each(cases):
        with guard:
            cases[case]()

with check("errors on a stream leave it open"):
    answers = queue.Queue()
    with triton.InferenceServerClient(TARGET) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)))
        streaming.async_stream_infer("nope", [vector([[1, 2]])])
        result, error = answers.get(timeout=WAIT_S)
        assert_error(error, None, "unknown model: 'nope'")
        streaming.async_stream_infer("identity_fp32", [vector([[1, 2]])])
        result, error = answers.get(timeout=WAIT_S)
        assert error is None, error
        assert_same(result.as_numpy("y"), np.array([[1, 2]], np.float32))

slow_input = np.ones([1, 1024], np.float32)

with check("client_timeout ends a call that takes longer"):
    assert_same(client.infer("slow", [vector(slow_input)], client_timeout=60).as_numpy("y"), slow_input)
    infer_fails("DEADLINE_EXCEEDED", model="slow", inputs=[vector(slow_input)], client_timeout=0.002)

with check("stream_timeout ends a stream"):
    answers = queue.Queue()
    with triton.InferenceServerClient(TARGET) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=0.5)
        streaming.async_stream_infer("identity_fp32", [vector([[1, 2]])])
        result, error = answers.get(timeout=WAIT_S)
        assert error is None, error
        result, error = answers.get(timeout=WAIT_S)
        assert_error(error, "DEADLINE_EXCEEDED")

with check("the timeout argument and deadline_ms are deadlines, the server's answer to a missed one says why"):
    infer_fails("DEADLINE_EXCEEDED", "deadline", model="slow", inputs=[vector(slow_input)], timeout=1000)
    infer_fails("DEADLINE_EXCEEDED", "deadline", model="slow", inputs=[vector(slow_input)], parameters={"deadline_ms": 1})

with check("priority is taken, timings come when asked for, headers name a tenant"):
    result = client.infer(
        "identity_fp32",
        [vector([[1, 2]])],
        priority=1,
        parameters={"slackline_timings": True, "best_effort": True},
        headers={"slackline-tenant": "compat"},
    )
    told = result.get_response().parameters
    assert told["slackline_batch_items"].int64_param >= 1, told

with check("a call can be cancelled, and so can a stream"):
    answers = queue.Queue()
    for _ in range(4):
        call = client.async_infer("slow", [vector(slow_input)], callback=lambda result, error: answers.put(error))
    call.cancel()
    told = [answers.get(timeout=WAIT_S) for _ in range(4)]
    cancelled = [error for error in told if error is not None]
    assert len(cancelled) == 1, told
    assert_error(cancelled[0], "CANCELLED")
    with triton.InferenceServerClient(TARGET) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(4):
            streaming.async_stream_infer("slow", [vector(slow_input)])
        streaming.stop_stream(cancel_requests=True)
    assert client.is_server_ready()
