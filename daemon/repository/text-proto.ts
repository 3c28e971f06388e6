/**
 * Reads protobuf's text format (https://protobuf.dev/reference/protobuf/textformat-spec/) without a schema: fields with
 * their values and positions, for whoever knows what they mean.
 */

export type TextValue =
  | { readonly kind: "message"; readonly fields: readonly TextField[] }
  | { readonly kind: "string"; readonly text: string }
  | { readonly kind: "number"; readonly value: number }
  /** An enum value, `true`, `false` … */
  | { readonly kind: "word"; readonly text: string };

/** One value of a field; a list gives one of these for each element. */
export interface TextField {
  readonly name: string;
  readonly value: TextValue;
  /** 1-based position of the name. */
  readonly line: number;
  readonly column: number;
}

/** The text is not in the format; says what was expected where. */
export class TextProtoError extends Error {
  readonly line: number;
  readonly column: number;

  constructor(message: string, line: number, column: number) {
    super(message);
    this.name = "TextProtoError";
    this.line = line;
    this.column = column;
  }
}

interface Token {
  readonly kind: "word" | "number" | "string" | "mark" | "end";
  readonly text: string;
  readonly at: number;
}

const NESTING_MAX = 64;

const SKIPPED = /(?:[\s\uFEFF]|#[^\n]*)*/y;
const NUMBER = /(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![A-Za-z0-9_.])/y;
const WORD = /[A-Za-z_][A-Za-z0-9_.]*/y;
const STRING = /"((?:[^"\\\n]|\\[^\n])*)"|'((?:[^'\\\n]|\\[^\n])*)'/y;

/** Parses a whole text. Throws TextProtoError. */
export function parseTextProto(text: string): readonly TextField[] {
  return new Parser(text).message("", 0);
}

class Parser {
  readonly #text: string;
  #position = 0;
  #token: Token;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#read();
  }

  /** Fields up to the closing mark; `""` for the end of the text. */
  message(close: string, depth: number): readonly TextField[] {
    if (depth > NESTING_MAX) throw this.#error(`messages are nested more than ${NESTING_MAX} deep`);
    const fields: TextField[] = [];
    for (;;) {
      const token = this.#token;
      if (close === "" ? token.kind === "end" : this.#isMark(close)) break;
      if (token.kind !== "word") throw this.#expected(close === "" ? "a field's name" : `a field's name or '${close}'`);
      this.#next();
      const hasColon = this.#take(":");
      const values = this.#isMark("[") ? this.#list(depth) : [this.#value(depth, hasColon)];
      const [line, column] = this.#lineOf(token.at);
      for (const value of values) fields.push({ name: token.text, value, line, column });
      if (!this.#take(",")) this.#take(";");
    }
    this.#next();
    return fields;
  }

  #list(depth: number): TextValue[] {
    const values: TextValue[] = [];
    this.#next();
    while (!this.#take("]")) {
      if (values.length > 0 && !this.#take(",")) throw this.#expected("',' or ']'");
      values.push(this.#value(depth, true));
    }
    return values;
  }

  #value(depth: number, hasColon: boolean): TextValue {
    for (const [open, close] of [
      ["{", "}"],
      ["<", ">"],
    ] as const) {
      if (this.#take(open)) return { kind: "message", fields: this.message(close, depth + 1) };
    }
    if (!hasColon) throw this.#expected("':' or '{'");
    const isNegative = this.#take("-");
    const token = this.#token;
    if (token.kind === "number") {
      this.#next();
      return { kind: "number", value: (isNegative ? -1 : 1) * numberOf(token.text) };
    }
    if (isNegative) throw this.#expected("a number");
    if (token.kind === "word") {
      this.#next();
      return { kind: "word", text: token.text };
    }
    if (token.kind !== "string") throw this.#expected("a value");
    // Strings that stand beside each other are one.
    let text = "";
    while (this.#token.kind === "string") {
      text += this.#token.text;
      this.#next();
    }
    return { kind: "string", text };
  }

  #isMark(mark: string): boolean {
    return this.#token.kind === "mark" && this.#token.text === mark;
  }

  #take(mark: string): boolean {
    if (!this.#isMark(mark)) return false;
    this.#next();
    return true;
  }

  #next(): void {
    this.#token = this.#read();
  }

  #read(): Token {
    this.#match(SKIPPED);
    const at = this.#position;
    if (at >= this.#text.length) return { kind: "end", text: "", at };
    const string = this.#match(STRING);
    if (string !== null) return { kind: "string", text: unescaped(string[1] ?? string[2] ?? ""), at };
    const number = this.#match(NUMBER);
    if (number !== null) return { kind: "number", text: number[0], at };
    const word = this.#match(WORD);
    if (word !== null) return { kind: "word", text: word[0], at };
    this.#position++;
    return { kind: "mark", text: this.#text[at]!, at };
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#position;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#position = pattern.lastIndex;
    return match;
  }

  #expected(what: string): TextProtoError {
    const found = this.#token.kind === "end" ? "the end of the file" : `'${this.#token.text}'`;
    return this.#error(`expected ${what}, found ${found}`);
  }

  #error(message: string): TextProtoError {
    return new TextProtoError(message, ...this.#lineOf(this.#token.at));
  }

  #lineOf(at: number): [line: number, column: number] {
    const before = this.#text.slice(0, at);
    return [before.split("\n").length, at - before.lastIndexOf("\n")];
  }
}

function numberOf(text: string): number {
  if (/^0[xX]/.test(text)) return Number(text);
  if (/^0[0-7]+$/.test(text)) return Number.parseInt(text, 8);
  return Number(text.replace(/[fF]$/, ""));
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", a: "\x07", b: "\b", f: "\f", v: "\v" };

/** Escapes as in C; bytes above 127 are taken as the UTF-8 that they are in any name. */
function unescaped(text: string): string {
  if (!text.includes("\\")) return text;
  const bytes: Buffer[] = [];
  const pattern = /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|[^\\]+/gs;
  for (const [all, octal, hex, short, long, simple] of text.matchAll(pattern)) {
    if (octal !== undefined) bytes.push(Buffer.from([Number.parseInt(octal, 8) & 0xff]));
    else if (hex !== undefined) bytes.push(Buffer.from([Number.parseInt(hex, 16)]));
    else if (short !== undefined || long !== undefined) bytes.push(Buffer.from(codePoint(short ?? long ?? "")));
    else bytes.push(Buffer.from(simple === undefined ? all : (ESCAPES[simple] ?? simple)));
  }
  return Buffer.concat(bytes).toString("utf8");
}

function codePoint(hex: string): string {
  const point = Number.parseInt(hex, 16);
  return point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
}
