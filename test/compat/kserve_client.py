"""KServe's own gRPC client.

    kserve_client.py TARGET
"""

import asyncio
import sys

from kserve import InferenceGRPCClient, InferInput, InferRequest

from checks import SAMPLES, Checks, assert_same, each

check = Checks("kserve")


async def main():
    async with InferenceGRPCClient(sys.argv[1]) as client:
        with check("server and model state"):
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready("digits")
        for binary in (True, False):
            with check(f"infer, every datatype, {'raw' if binary else 'typed'} contents"):
                # FP16 has no typed contents.
                for datatype, guard in each([name for name in SAMPLES if binary or name != "FP16"]):
                    with guard:
                        model = f"identity_{datatype.lower()}"
                        tensor = InferInput("x", list(SAMPLES[datatype].shape), datatype)
                        tensor.set_data_from_numpy(SAMPLES[datatype], binary_data=binary)
                        answer = await client.infer(InferRequest(model_name=model, infer_inputs=[tensor]))
                        assert_same(answer.outputs[0].as_numpy(), SAMPLES[datatype])


asyncio.run(main())
