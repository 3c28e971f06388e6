/** The provider libraries could not be set up; the message says why and what to do. */
export class SetupError extends Error {}
