/** Registered shared memory, as a fake daemon has it. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import path from "node:path";
import type { InferParameter__Output } from "../../proto/generated/inference/InferParameter.ts";
import type { ModelInferRequest__Output } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelInferResponse } from "../../proto/generated/inference/ModelInferResponse.ts";

type Parameters = Readonly<Record<string, InferParameter__Output>>;

interface Place {
  readonly region: string;
  readonly offset: number;
  readonly bytes: number;
}

export function placeOf(parameters: Parameters): Place | null {
  const region = parameters.shared_memory_region?.string_param;
  if (region === undefined) return null;
  const number = (name: string): number => Number(parameters[name]?.int64_param ?? 0);
  return { region, offset: number("shared_memory_offset"), bytes: number("shared_memory_byte_size") };
}

export class RegionGone extends Error {}

export class FakeRegions {
  /** Names of all that were ever registered, and of those that were unregistered. */
  readonly registered: string[] = [];
  readonly unregistered: string[] = [];
  /** Thrown at whoever registers. */
  refusal: Error | null = null;
  readonly #fds = new Map<string, number>();

  register({ name, key }: { readonly name: string; readonly key: string }): object {
    this.registered.push(name);
    if (this.refusal !== null) throw this.refusal;
    this.#fds.set(name, openSync(path.join("/dev/shm", key), "r+"));
    return {};
  }

  unregister({ name }: { readonly name: string }): object {
    this.unregistered.push(name);
    this.#close(name);
    return {};
  }

  close(): void {
    for (const name of [...this.#fds.keys()]) this.#close(name);
  }

  #close(name: string): void {
    const fd = this.#fds.get(name);
    if (fd !== undefined) closeSync(fd);
    this.#fds.delete(name);
  }

  #fdOf(region: string): number {
    const fd = this.#fds.get(region);
    if (fd === undefined) throw new RegionGone(`region '${region}' is not registered`);
    return fd;
  }

  read({ region, offset, bytes }: Place): Buffer {
    const data = Buffer.alloc(bytes);
    readSync(this.#fdOf(region), data, 0, bytes, offset);
    return data;
  }

  /** The request's inputs, wherever they are, in order. */
  inputs(request: ModelInferRequest__Output): Buffer[] {
    let raws = 0;
    return request.inputs.map(({ parameters }) => {
      const place = placeOf(parameters);
      return place === null ? request.raw_input_contents[raws++]! : this.read(place);
    });
  }

  /** An answer whose outputs are the request's inputs, those in shared memory that the request has a place for there. */
  echo(request: ModelInferRequest__Output): ModelInferResponse {
    const raws: Buffer[] = [];
    const inputs = this.inputs(request);
    const outputs = request.inputs.map(({ name, datatype, shape }, index) => {
      const asked = request.outputs.find((output) => output.name === name);
      const place = asked === undefined ? null : placeOf(asked.parameters);
      raws.push(place === null ? inputs[index]! : Buffer.alloc(0));
      if (place === null) return { name, datatype, shape };
      writeSync(this.#fdOf(place.region), inputs[index]!, 0, inputs[index]!.length, place.offset);
      return { name, datatype, shape, parameters: asked!.parameters };
    });
    return { model_name: request.model_name, model_version: "1", id: request.id, outputs, raw_output_contents: raws };
  }
}
