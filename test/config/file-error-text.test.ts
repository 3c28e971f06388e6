import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileErrorText } from "../../daemon/config/yaml-file.ts";

test("why a file can't be read is told without its path", () => {
  const node = (code: string, text: string, syscall: string): Error =>
    Object.assign(new Error(`${code}: ${text}, ${syscall} '/srv/models/m, open/1'`), { code, syscall });
  assert.equal(fileErrorText(node("ENOENT", "no such file or directory", "open")), "it does not exist");
  assert.equal(fileErrorText(node("EMFILE", "too many open files", "open")), "EMFILE: too many open files");
  assert.equal(fileErrorText(node("ESTALE", "stale file handle", "realpath")), "ESTALE: stale file handle");
  const io = Object.assign(new Error("EIO: i/o error, read"), { code: "EIO", syscall: "read" });
  assert.equal(fileErrorText(io), "EIO: i/o error");
  assert.equal(fileErrorText(new Error("it is larger than 5 bytes")), "it is larger than 5 bytes");
  for (const name of ["n".repeat(300), "nul\0"]) {
    assert.throws(
      () => readFileSync(`/tmp/${name}`),
      (error) => !fileErrorText(error).includes("/tmp"),
    );
  }
});
