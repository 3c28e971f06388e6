/** Who is at the other end of a call. */

/** Whether a peer, as grpc-js writes it (`ADDRESS:PORT`), is on the loopback. */
export function isLoopback(peer: string): boolean {
  const address = peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return address === "::1" || /^(?:::ffff:)?127\./.test(address);
}

/** A call's peer, looked at once: a stream's requests are many. */
export class Peer {
  readonly #call: { getPeer(): string };
  #address: string | null = null;
  #onLoopback: boolean | null = null;

  constructor(call: { getPeer(): string }) {
    this.#call = call;
  }

  /** As grpc-js writes it; one for each connection. */
  get address(): string {
    this.#address ??= this.#call.getPeer();
    return this.#address;
  }

  get onLoopback(): boolean {
    this.#onLoopback ??= isLoopback(this.address);
    return this.#onLoopback;
  }
}
