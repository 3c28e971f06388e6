/** Edits (insert, delete, replace, swap of neighbours) that turn one word into the other. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replaced, last[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, beforeLast[j - 2]! + 1);
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

const normal = (text: string): string => text.toLowerCase().replaceAll("-", "_").slice(0, 64);

/**
 * The known name that was probably meant, or null where none is near; case and `-` against `_` count as equal. Near are
 * names a few edits away, and names of which some whole words were written (`slo` for `slo_ms`).
 */
export function nearestName(name: string, known: readonly string[]): string | null {
  const wanted = normal(name);
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(wanted, normal(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best !== null || wanted === "") return best;
  const withWords = known.filter((candidate) => `_${normal(candidate)}_`.includes(`_${wanted}_`));
  return withWords.sort((a, b) => a.length - b.length)[0] ?? null;
}

/** What to say after an unknown name: the probable one, or all that there are. */
export function nameHint(name: string, known: readonly string[]): string {
  const nearest = nearestName(name, known);
  return nearest === null ? `known: ${known.join(", ")}` : `did you mean '${nearest}'?`;
}
