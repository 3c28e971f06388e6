import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, it } from "node:test";
import { credentials } from "@grpc/grpc-js";
import { answered, failed, infer, protocol, startServer, vectorRequest } from "./harness.ts";

const haveOpenssl = spawnSync("openssl", ["version"]).status === 0;

describe("TLS", { skip: haveOpenssl ? false : "openssl, which makes the certificate, is not installed" }, () => {
  const dir = mkdtempSync(path.join(tmpdir(), "slackline-tls-"));
  after(() => rmSync(dir, { recursive: true }));

  function certificate(): { key: Buffer; cert: Buffer } {
    const key = path.join(dir, "key.pem");
    const cert = path.join(dir, "cert.pem");
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    execFileSync("openssl", ["req", ...kind, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
    return { key: readFileSync(key), cert: readFileSync(cert) };
  }

  it("serves callers that trust its certificate, and with a client CA only those that show one", async () => {
    const { key, cert } = certificate();
    for (const clientCa of [null, cert]) {
      const harness = await startServer({ tls: { certificateChain: cert, privateKey: key, clientCa } });
      const ask = async (channel: ReturnType<typeof credentials.createSsl>) => {
        const client = new protocol.inference.GRPCInferenceService(harness.address, channel);
        const result = await infer(client, vectorRequest(), 5_000);
        client.close();
        return result;
      };
      answered(await ask(credentials.createSsl(cert, key, cert)));
      const anonymous = await ask(credentials.createSsl(cert));
      if (clientCa === null) answered(anonymous);
      else assert.match(failed(anonymous).code, /UNAVAILABLE|DEADLINE_EXCEEDED/);
      assert.match(failed(await infer(harness.client, vectorRequest(), 1_000)).code, /UNAVAILABLE|DEADLINE_EXCEEDED/);
      await harness.stop();
    }
  });
});
