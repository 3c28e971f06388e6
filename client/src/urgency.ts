/**
 * How long a request may wait, in three classes: it has a deadline of its own; it has none, and the daemon applies the model's SLO; it runs
 * in time that nobody needs.
 */
export type Urgency = "deadline" | "slo" | "background";

/** The most urgent first. */
export const URGENCIES: readonly Urgency[] = ["deadline", "slo", "background"];
