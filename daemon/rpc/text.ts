/** Turning what callers and the runtime say into parts of a sentence that is safe to send. */
import { homedir, tmpdir } from "node:os";

const NAME_LENGTH_MAX = 200;

/** A caller's name for a message: long ones are cut, since error texts travel in HTTP/2 headers. */
export function shown(name: string): string {
  if (name.length <= NAME_LENGTH_MAX) return name;
  // By code points: half a surrogate pair can't be sent.
  return `${Array.from(name.slice(0, NAME_LENGTH_MAX + 1))
    .slice(0, -1)
    .join("")}…`;
}

const DIMENSIONS_SHOWN_MAX = 32;

export function shownShape(shape: readonly (number | { toString(): string })[]): string {
  if (shape.length <= DIMENSIONS_SHOWN_MAX) return `[${shape.join(",")}]`;
  return `[${shape.slice(0, DIMENSIONS_SHOWN_MAX).join(",")},… ${shape.length} dimensions]`;
}

const MESSAGE_LENGTH_MAX = 2000;
const HOST_PATH =
  /(?:[A-Za-z]:\\|\/(?:home|root|usr|opt|var|tmp|mnt|srv|etc|dev|proc|sys|run|private|Users)\/)[^\s'":,;()[\]]*/g;

/**
 * A message of the runtime or the operating system without paths of the host: names of graph nodes look like absolute paths
 * too and are worth keeping, so only what lies under a known folder is cut to its last part.
 */
export function withoutHostPaths(message: string, knownFolders: readonly string[] = []): string {
  let text = message;
  for (const folder of [...knownFolders, process.cwd(), homedir(), tmpdir()]) {
    if (folder.length > 1) text = text.replaceAll(folder.endsWith("/") ? folder : `${folder}/`, "");
  }
  text = text.replace(HOST_PATH, (match) => match.split(/[\\/]/).filter(Boolean).at(-1) ?? "");
  return text.length <= MESSAGE_LENGTH_MAX ? text : `${Array.from(text).slice(0, MESSAGE_LENGTH_MAX).join("")}…`;
}

/** Milliseconds for a sentence, from microseconds. */
export function shownMs(us: number): string {
  const ms = us / 1000;
  return ms >= 100 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(1) : ms.toFixed(2);
}

/** Clients accept some 8 KiB of trailers in all. */
const HEADER_BYTES_MAX = 6000;

/** A message as a status's details: those travel percent-encoded in a header, of which clients take only so much. */
export function headerText(message: string): string {
  // At worst a UTF-16 unit takes nine bytes there. Half surrogate pairs can't be encoded at all.
  const text = /[\ud800-\udfff]/.test(message) ? Buffer.from(message).toString() : message;
  if (text.length * 9 <= HEADER_BYTES_MAX || encodeURI(text).length <= HEADER_BYTES_MAX) return text;
  let bytes = 0;
  let kept = "";
  for (const character of text) {
    bytes += encodeURI(character).length;
    if (bytes > HEADER_BYTES_MAX) break;
    kept += character;
  }
  return `${kept}…`;
}
