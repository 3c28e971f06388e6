/** The standard health service, with a name for each model beside the daemon's own. */
import type { Server } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";

/** Names under which the daemon as a whole is asked for. */
const DAEMON_SERVICES: readonly string[] = ["", "inference.GRPCInferenceService"];

export class Health {
  readonly #implementation = new HealthImplementation();
  /** By service name, whether it is serving when the daemon isn't draining. */
  readonly #serving = new Map<string, boolean>();
  #draining = false;

  constructor() {
    this.setDaemon(false);
  }

  addTo(server: Server): void {
    this.#implementation.addToServer(server);
  }

  setDaemon(serving: boolean): void {
    for (const service of DAEMON_SERVICES) this.#set(service, serving);
  }

  /** `service` is a model's name, or its name and version (`ranker/2`). */
  setModel(service: string, serving: boolean): void {
    // The empty name is the daemon's own.
    if (service !== "") this.#set(service, serving);
  }

  /** Nothing serves any more, whatever is set later. */
  drain(): void {
    this.#draining = true;
    for (const service of this.#serving.keys()) this.#set(service, false);
  }

  #set(service: string, serving: boolean): void {
    const now = serving && !this.#draining;
    if (this.#serving.get(service) === now) return;
    this.#serving.set(service, now);
    this.#implementation.setStatus(service, now ? "SERVING" : "NOT_SERVING");
  }
}
