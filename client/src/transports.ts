/** Builds and keeps the routers: one for unary calls, one for the streams of each tenant. */
import type { Metadata } from "@grpc/grpc-js";
import type { Endpoint } from "./endpoint.ts";
import type { SlacklineError } from "./errors.ts";
import { nowMs } from "./infer-call.ts";
import { buildMetadata, type CompiledOptions, type Transport } from "./options.ts";
import { Router } from "./router.ts";
import { StreamLink } from "./stream-link.ts";
import { UnaryLink } from "./unary-link.ts";

const STREAMS = 2;
/** gRPC leads successive streams to successive addresses: more streams reach more of them. */
const STREAMS_OF_SEVERAL = 4;
/** Streams of a tenant other than the client's own are closed when unused for this long. */
const TENANT_IDLE_MS = 30_000;

export class Transports {
  readonly #options: CompiledOptions;
  readonly #endpoints: readonly Endpoint[];
  readonly #unary: Router;
  readonly #streams = new Map<string, Router>();
  readonly #links = new Map<Router, Map<Endpoint, Set<StreamLink>>>();
  readonly #withoutStreams = new Set<Endpoint>();
  #sweep: NodeJS.Timeout | null = null;

  constructor(options: CompiledOptions, endpoints: readonly Endpoint[]) {
    this.#options = options;
    this.#endpoints = endpoints;
    this.#unary = this.#router(null);
    for (const endpoint of endpoints) this.#addUnary(this.#unary, endpoint);
  }

  /** The router for requests of this tenant. */
  router(transport: Transport, tenant: string): Router {
    if (transport === "unary") return this.#unary;
    const known = this.#streams.get(tenant);
    if (known !== undefined) return known;
    const router = this.#router(this.#unary);
    this.#streams.set(tenant, router);
    const own = tenant === this.#options.tenant;
    const metadata = buildMetadata(tenant, this.#options.metadata);
    for (const endpoint of this.#endpoints) {
      if (this.#withoutStreams.has(endpoint)) this.#addUnary(router, endpoint);
      else this.#addStreams(router, endpoint, metadata, own);
    }
    if (!own) this.#sweep ??= setInterval(() => this.#closeIdle(), TENANT_IDLE_MS).unref();
    return router;
  }

  close(error: SlacklineError): void {
    if (this.#sweep !== null) clearInterval(this.#sweep);
    for (const router of [...this.#streams.values(), this.#unary]) router.close(error);
  }

  #router(isolation: Router | null): Router {
    const { graceMs, connectTimeoutMs, queueMax } = this.#options;
    const problem = (): string =>
      this.#endpoints.map((endpoint) => `${endpoint.target}: ${endpoint.problem}`).join("; ");
    return new Router({ graceMs, connectTimeoutMs, queueMax, problem, isolation });
  }

  #addUnary(router: Router, endpoint: Endpoint): void {
    router.add(new UnaryLink(endpoint, this.#options.graceMs, router));
  }

  #addStreams(router: Router, endpoint: Endpoint, metadata: Metadata, own: boolean): void {
    const count = own ? (this.#options.streams ?? (endpoint.several ? STREAMS_OF_SEVERAL : STREAMS)) : 1;
    for (let i = 0; i < count; i++) this.#addStream(router, endpoint, metadata);
  }

  #addStream(router: Router, endpoint: Endpoint, metadata: Metadata): void {
    const link = new StreamLink({
      endpoint,
      metadata,
      events: router,
      onUnsupported: () => this.#useUnary(endpoint),
      onAged: (aged) => {
        this.#links.get(router)?.get(endpoint)?.delete(aged);
        this.#addStream(router, endpoint, metadata);
        router.retire(aged);
      },
    });
    let byEndpoint = this.#links.get(router);
    if (byEndpoint === undefined) {
      byEndpoint = new Map();
      this.#links.set(router, byEndpoint);
    }
    const links = byEndpoint.get(endpoint) ?? new Set();
    byEndpoint.set(endpoint, links.add(link));
    router.add(link);
  }

  /** The server at this endpoint has no streams: what was meant for them goes as unary calls. */
  #useUnary(endpoint: Endpoint): void {
    if (this.#withoutStreams.has(endpoint)) return;
    this.#withoutStreams.add(endpoint);
    for (const router of this.#streams.values()) {
      const links = this.#links.get(router)?.get(endpoint) ?? [];
      this.#links.get(router)?.delete(endpoint);
      this.#addUnary(router, endpoint);
      for (const link of links) router.retire(link);
    }
  }

  #closeIdle(): void {
    for (const [tenant, router] of this.#streams) {
      if (tenant === this.#options.tenant || router.open > 0 || nowMs() - router.lastUsedMs < TENANT_IDLE_MS) continue;
      router.closeLinks();
      this.#streams.delete(tenant);
      this.#links.delete(router);
    }
  }
}
