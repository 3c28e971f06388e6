import type { Provider } from "./provider.ts";

export interface ProbeRequest {
  readonly provider: Provider;
  /** Whether an adapter that computes on the CPU counts as a GPU. */
  readonly allowSoftwareGpu: boolean;
}

export type ProbeResult =
  /** The hardware's name. */
  | { readonly ok: true; readonly name: string }
  /** Why it cannot be used, in words that follow the provider's name and a colon. */
  | { readonly ok: false; readonly reason: string };
