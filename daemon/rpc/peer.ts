/** Who is at the other end of a call. */

/** Whether a peer, as grpc-js writes it (`ADDRESS:PORT`), is on the loopback. */
export function isLoopback(peer: string): boolean {
  const address = peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return address === "::1" || /^(?:::ffff:)?127\./.test(address);
}

/** A call's peer, looked at when something depends on it: most requests need not know. */
export class Peer {
  readonly #call: { getPeer(): string };
  #onLoopback: boolean | null = null;

  constructor(call: { getPeer(): string }) {
    this.#call = call;
  }

  get onLoopback(): boolean {
    this.#onLoopback ??= isLoopback(this.#call.getPeer());
    return this.#onLoopback;
  }
}
