/** Shared memory as those see it who send requests: room for one attempt's tensors, lent until the daemon is done with it. */
import type { SharedPlace, SharedPlaces, WireRequest } from "../wire/request.ts";
import type { WireResponse } from "../wire/response.ts";

/** The room of one attempt. It ends with exactly one of `release`, `refused` and `doubt`. */
export interface Lease {
  /** Where the inputs lie, already written, and where outputs shall go. */
  readonly places: SharedPlaces;
  /** The bytes of an output, copied. Throws where the place is none of this lease. */
  read(place: SharedPlace): Buffer;
  /** The daemon has answered, and so will not touch the room any more. */
  release(): void;
  /** The daemon has answered that it can't use the memory. */
  refused(why: string): void;
  /** Nobody waits any more, and nothing tells whether the daemon is done: the room is not used again. */
  doubt(): void;
}

/** Where leases come from: one for each target whose daemon may share memory with this process. */
export interface LeaseSource {
  /** Room for the large tensors of a request, or null where it has none or there is no room: then they travel in the message. */
  lease(request: WireRequest): Lease | null;
  /** A request was answered: what is learned from that serves the next of its kind. */
  answered(request: WireRequest, response: WireResponse): void;
}
