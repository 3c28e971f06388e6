/** The bundle could not be made; the message says why. */
export class BundleError extends Error {}
