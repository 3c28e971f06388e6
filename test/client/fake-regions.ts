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

export class UnknownOutput extends Error {}

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

  /**
   * An answer whose outputs are the request's inputs, under other names where `rename` says so, those in shared memory that the request
   * has a place for there. Throws UnknownOutput.
   */
  echo(
    request: ModelInferRequest__Output,
    version = "1",
    rename: (input: string) => string = (input) => input,
  ): ModelInferResponse {
    const raws: Buffer[] = [];
    const inputs = this.inputs(request);
    const all = request.inputs.map(({ name, datatype, shape }, index) => {
      return { output: { name: rename(name), datatype, shape }, bytes: inputs[index]! };
    });
    const chosen = request.outputs.length > 0 && !request.parameters.slackline_all_outputs?.bool_param;
    for (const { name } of chosen ? request.outputs : []) {
      if (!all.some(({ output }) => output.name === name))
        throw new UnknownOutput(`unexpected inference output '${name}'`);
    }
    const answered = all.filter(({ output }) => !chosen || request.outputs.some(({ name }) => name === output.name));
    const outputs = answered.map(({ output, bytes }) => {
      const asked = request.outputs.find(({ name }) => name === output.name);
      const place = asked === undefined ? null : placeOf(asked.parameters);
      const fits = place !== null && place.bytes >= bytes.length;
      raws.push(fits ? Buffer.alloc(0) : bytes);
      if (!fits) return output;
      writeSync(this.#fdOf(place.region), bytes, 0, bytes.length, place.offset);
      const parameters = { ...asked!.parameters, shared_memory_byte_size: { int64_param: bytes.length } };
      return { ...output, parameters };
    });
    const { model_name, id } = request;
    return { model_name, model_version: version, id, outputs, raw_output_contents: raws };
  }
}
