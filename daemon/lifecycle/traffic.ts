/** Which version of a model answers a request that names none, where its `traffic` setting shares them out. */
import { createHash } from "node:crypto";
import type { TrafficShare } from "../repository/model.ts";

interface Version extends TrafficShare {
  /** What it is owed, in the unit of shares: grows by its share with each request, and falls when it gets one. */
  credit: number;
}

export class TrafficSplit {
  readonly #model: string;
  readonly #versions: readonly Version[];

  /** @param shares of requests, in any unit; at least one above 0 */
  constructor(model: string, shares: readonly TrafficShare[]) {
    this.#model = model;
    this.#versions = shares.map((share) => ({ ...share, credit: 0 }));
  }

  /**
   * The version for one request. Those that are not up leave their share to the others.
   *
   * @param key requests of one key go to one version, for as long as it is up and its share does not fall; null: whichever is due
   * @returns null where no version with a share is up
   */
  choose(isUp: (version: number) => boolean, key: string | null): number | null {
    const up = this.#versions.filter(({ version, share }) => share > 0 && isUp(version));
    if (up.length <= 1) return up[0]?.version ?? null;
    return key === null ? this.#mostDue(up) : this.#keyed(up, key);
  }

  /** The one with the largest share among those that are eligible: what is told of the model where no version is named. */
  main(isEligible: (version: number) => boolean): number | null {
    let main: Version | null = null;
    for (const one of this.#versions) {
      if (one.share > 0 && one.share >= (main?.share ?? 0) && isEligible(one.version)) main = one;
    }
    return main?.version ?? null;
  }

  /** Part of the requests without a version that it gets where these versions share them. */
  partOf(version: number, isEligible: (version: number) => boolean): number {
    const shares = this.#versions.filter((one) => isEligible(one.version));
    const total = shares.reduce((sum, { share }) => sum + share, 0);
    return total === 0 ? 0 : (shares.find((one) => one.version === version)?.share ?? 0) / total;
  }

  /** Versions that are to get requests. */
  get versions(): readonly number[] {
    return this.#versions.filter(({ share }) => share > 0).map(({ version }) => version);
  }

  /** Smooth weighted round robin, as nginx has it: shares are kept exactly, and no version gets its requests in a row. */
  #mostDue(up: readonly Version[]): number {
    let total = 0;
    let due = up[0]!;
    for (const one of up) {
      one.credit += one.share;
      total += one.share;
      if (one.credit > due.credit) due = one;
    }
    due.credit -= total;
    return due.version;
  }

  /** Weighted rendezvous hashing: where a share grows, keys move to that version and to no other. */
  #keyed(up: readonly Version[], key: string): number {
    let nearest = up[0]!;
    let least = Number.POSITIVE_INFINITY;
    for (const one of up) {
      const distance = -Math.log(uniform(`${this.#model}/${one.version} ${key}`)) / one.share;
      if (distance >= least) continue;
      least = distance;
      nearest = one;
    }
    return nearest.version;
  }
}

/** A number above 0 and at most 1 that depends on the text alone. */
function uniform(text: string): number {
  return (createHash("sha256").update(text).digest().readUIntBE(0, 6) + 1) / 2 ** 48;
}
