export interface CheckReport {
  readonly problems: readonly string[];
  readonly text: string;
}
export function checkLog(_log: string, _scenario: string): CheckReport {
  return { problems: [], text: "" };
}
