/** What these tests execute on, as run.ts says. */
export const PROVIDER: string = process.env.SLACKLINE_TEST_DEVICE ?? "webgpu";
