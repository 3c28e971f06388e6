/** Numbers as people read them. */

export function count(n: number): string {
  return Math.round(n).toLocaleString("en-US");
}

/** Three significant digits are what a measurement is worth: 0.42, 7.31, 48.2, 1,204. */
export function figure(n: number): string {
  if (!Number.isFinite(n)) return "–";
  const size = Math.abs(n);
  if (size >= 100) return count(n);
  if (size >= 10) return n.toFixed(1);
  return n.toFixed(2);
}

export function milliseconds(ms: number): string {
  return `${figure(ms)} ms`;
}

/** A share of 0..1; near the ends it keeps a digit, so that 99.96 % is not shown as 100 %. */
export function percent(share: number): string {
  const value = share * 100;
  if (!Number.isFinite(value)) return "–";
  if (value === 0 || value >= 100) return value === 0 ? "0 %" : `${figure(value)} %`;
  if (value > 99.9) return `${Math.min(99.99, value).toFixed(2)} %`;
  return `${value.toFixed(value < 0.1 ? 2 : 1)} %`;
}

export function bytes(n: number): string {
  if (n >= 2 ** 30) return `${figure(n / 2 ** 30)} GiB`;
  return `${figure(n / 2 ** 20)} MiB`;
}
