/** Profiles of one model on one lane by shape key: those measured, and guesses for shapes that turned up later. */
import type { Profile, ShapeProfiles } from "../scheduler/types.ts";
import { batchLayout, type LaidOutModel } from "./layout.ts";
import { scaledProfile } from "./profile.ts";

/** Shapes are the callers' choice; guesses beyond this many replace the oldest. */
const GUESSES_MAX = 256;

export class ShapeTable {
  readonly #model: LaidOutModel;
  readonly #measured: Map<string, { profile: Profile; elements: number }>;
  readonly #guessed = new Map<string, Profile>();

  constructor(model: LaidOutModel, measured: ShapeProfiles) {
    this.#model = model;
    this.#measured = new Map(
      Object.entries(measured).map(([shape, profile]) => [shape, { profile, elements: itemElements(model, shape) }]),
    );
  }

  /** Those that were measured. */
  get measured(): ShapeProfiles {
    return Object.fromEntries([...this.#measured].map(([shape, { profile }]) => [shape, profile]));
  }

  /** All profiles there are, for lanes that need no warming: `"*"`, the slowest measured, is for shapes that are in none. */
  get profiles(): ShapeProfiles {
    const profiles: Record<string, Profile> = Object.fromEntries(this.#guessed);
    let slowest: Profile | null = null;
    for (const [shape, { profile }] of this.#measured) {
      profiles[shape] = profile;
      if (slowest === null || (profile[0]?.us ?? 0) > (slowest[0]?.us ?? 0)) slowest = profile;
    }
    return slowest === null ? profiles : { ...profiles, "*": slowest };
  }

  has(shape: string): boolean {
    return this.#measured.has(shape) || this.#guessed.has(shape);
  }

  isMeasured(shape: string): boolean {
    return this.#measured.has(shape);
  }

  /** Takes a profile that was measured later. */
  add(shape: string, profile: Profile): void {
    this.#guessed.delete(shape);
    this.#measured.set(shape, { profile, elements: itemElements(this.#model, shape) });
  }

  /** Throws where the shape key is none of this model's. */
  get(shape: string): { profile: Profile; measured: boolean } {
    const measured = this.#measured.get(shape);
    if (measured !== undefined) return { profile: measured.profile, measured: true };
    let profile = this.#guessed.get(shape);
    if (profile === undefined) {
      profile = this.#guess(shape);
      const oldest = this.#guessed.size < GUESSES_MAX ? undefined : this.#guessed.keys().next().value;
      if (oldest !== undefined) this.#guessed.delete(oldest);
      this.#guessed.set(shape, profile);
    }
    return { profile, measured: false };
  }

  #guess(shape: string): Profile {
    const elements = Math.max(1, itemElements(this.#model, shape));
    let nearest: { profile: Profile; elements: number } | null = null;
    let distance = Infinity;
    for (const candidate of this.#measured.values()) {
      const away = Math.abs(Math.log(elements / Math.max(1, candidate.elements)));
      if (away < distance) {
        nearest = candidate;
        distance = away;
      }
    }
    return nearest === null ? [] : scaledProfile(nearest.profile, elements / Math.max(1, nearest.elements));
  }
}

function itemElements(model: LaidOutModel, shape: string): number {
  return batchLayout(model, shape).inputs.reduce((sum, place) => sum + place.itemElements, 0);
}
