/** Requests as the client's own parts see them, without a client. */
import { Metadata } from "@grpc/grpc-js";
import { InferCall } from "../../client/src/infer-call.ts";

export function inferCall(deadlineMs: number | null, bestEffort: boolean = false): InferCall {
  const request = { model: "m", version: "", inputs: [], outputs: [], parameters: [] };
  const settings = { request, deadlineMs, replyMarginMs: 2, bestEffort, retry: true, metadata: new Metadata() };
  return new InferCall(
    settings,
    () => {},
    () => {},
  );
}
