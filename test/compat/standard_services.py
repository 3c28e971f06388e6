"""Health checking and reflection as any gRPC client uses them, and calls through descriptors that reflection gave.

    standard_services.py TARGET
"""

import struct
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from checks import Checks

WAIT_S = 30
SERVICE = "inference.GRPCInferenceService"
channel = grpc.insecure_channel(sys.argv[1])
SERVING = health_pb2.HealthCheckResponse.SERVING

check = Checks("grpcio-health-checking")
health = health_pb2_grpc.HealthStub(channel)

with check("health: Check of the daemon, a model and a version"):
    for service in ("", "digits", "digits/1"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S).status
        assert status == SERVING, f"'{service}': {status}"

with check("health: Check of an unknown model is NOT_FOUND"):
    try:
        health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=WAIT_S)
        raise AssertionError("it did not fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error

with check("health: Watch tells a model's state at once, and SERVICE_UNKNOWN of an unknown one"):
    for service, expected in (("digits", SERVING), ("nope", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)):
        watch = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S)
        assert next(watch).status == expected, service
        watch.cancel()

check = Checks("grpcio-reflection")
pool = None

with check("reflection: services are listed"):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {SERVICE, "grpc.health.v1.Health"} <= services, services
    pool = descriptor_pool.DescriptorPool(database)


def call(name, /, **fields):
    method = pool.FindServiceByName(SERVICE).FindMethodByName(name)
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    stub = channel.unary_unary(
        f"/{SERVICE}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    return stub(request(**fields), timeout=WAIT_S)


with check("reflection: ModelReady and ModelMetadata through its descriptors"):
    assert call("ModelReady", name="digits").ready
    assert not call("ModelReady", name="nope").ready
    assert call("ModelMetadata", name="digits").inputs[0].name == "image"

with check("reflection: ModelInfer with typed contents through its descriptors"):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1.5, -2]}}
    answer = call("ModelInfer", model_name="identity_fp32", id="typed", inputs=[tensor])
    assert answer.id == "typed" and struct.unpack("<2f", answer.raw_output_contents[0]) == (1.5, -2), answer
