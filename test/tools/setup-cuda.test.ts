/** The command as a whole, against a feed, wheels and libraries made here. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import AdmZip from "adm-zip";
import { runtimeVersion, versionsIn } from "../../tools/cuda/version.ts";
import { temporaryFolder } from "../support/live-daemon.ts";
import { fakeLibrary } from "./fake-library.ts";

const MAIN = fileURLToPath(new URL("../../tools/cuda/main.js", import.meta.url));
const VERSION = runtimeVersion();
const PACKAGE = "microsoft.ml.onnxruntime.gpu.linux";
const SHARED = "libonnxruntime_providers_shared.so";
const CUDA = "libonnxruntime_providers_cuda.so";

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function setup(args: readonly string[], env: Record<string, string> = {}): Promise<Run> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, LD_LIBRARY_PATH: "", ...env } };
    execFile(process.execPath, [MAIN, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

/** A provider that needs libraries which no machine has, so that the tests mean the same on one with CUDA. */
function provider(version: string, cudaMajor = 97): Buffer {
  return fakeLibrary([`libcublas.so.${cudaMajor}`, `libcudart.so.${cudaMajor}`, "libc.so.6"], ["12.8.0", version]);
}

const skip = process.platform === "linux" && process.arch === "x64" ? false : "the CUDA provider is for linux-x64 only";

describe("setup:cuda", { skip }, () => {
  const temporary = temporaryFolder();
  let made = 0;
  function folder(files: Readonly<Record<string, Uint8Array | string>> = {}): string {
    const dir = path.join(temporary.dir, String(++made));
    mkdirSync(dir);
    for (const [name, bytes] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
      writeFileSync(path.join(dir, name), bytes);
    }
    return dir;
  }
  after(() => temporary.remove());

  it("takes the libraries from a folder and names what is missing, and how to get it", async () => {
    const into = folder();
    const from = folder({ [SHARED]: fakeLibrary([], []), [CUDA]: provider(VERSION) });
    const { code, stdout } = await setup(["--from-dir", from, "--into", into]);
    assert.equal(code, 3);
    assert.deepEqual(readdirSync(into).sort(), [CUDA, SHARED].sort());
    assert.deepEqual(readFileSync(path.join(into, CUDA)), provider(VERSION));
    assert.match(stdout, /built for CUDA 97\nmissing: libcublas\.so\.97, libcudart\.so\.97\n/);
    assert.match(stdout, /pip install --target CUDA_FOLDER nvidia-cublas nvidia-cuda-runtime\n/);
    assert.doesNotMatch(stdout, /missing:.*libc\.so/);
  });

  it("names cuDNN, which the provider opens by itself, and the packages of the provider's CUDA", async () => {
    const into = folder({ [SHARED]: fakeLibrary([], []), [CUDA]: provider(VERSION, 12) });
    // Of CUDA 12 both are there, but cuDNN and cuFFT may be or not: only what this folder lacks can be asserted.
    const libraries = folder({
      "lib/libcublas.so.12": fakeLibrary([], []),
      "lib/libcudart.so.12": fakeLibrary([], []),
    });
    const { stdout } = await setup(["--check", "--into", into, "--libraries", libraries]);
    assert.match(stdout, /built for CUDA 12\n/);
    assert.doesNotMatch(stdout, /missing:.*libcublas/);
    assert.match(stdout, /libcudnn\.so\.9/);
    if (/missing:.*libcudnn/.test(stdout)) assert.match(stdout, /nvidia-cudnn-cu12/);
  });

  it("finds libraries below a folder and says how to start the daemon with them", async () => {
    const into = folder({ [SHARED]: fakeLibrary([], []), [CUDA]: provider(VERSION) });
    const libraries = folder({
      "nvidia/cublas/lib/libcublas.so.97": fakeLibrary([], []),
      "nvidia/cuda/lib/libcudart.so.97": fakeLibrary([], []),
      "nvidia/cuda/lib/stubs/libcuda.so.1": fakeLibrary([], []),
    });
    const { code, stdout } = await setup(["--check", "--into", into, "--libraries", libraries]);
    assert.equal(code, 0, stdout);
    const lib = (name: string): string => path.join(libraries, "nvidia", name, "lib");
    assert.ok(stdout.includes(`export LD_LIBRARY_PATH=${lib("cublas")}:${lib("cuda")}\n`), stdout);
    const again = await setup(["--check", "--into", into], { LD_LIBRARY_PATH: `${lib("cublas")}:${lib("cuda")}` });
    assert.equal(again.code, 0, again.stdout);
  });

  it("names the driver where that is missing, and what needs it", async () => {
    const driverless = fakeLibrary(["libcuda.so.1"], [VERSION]);
    const into = folder({ [SHARED]: fakeLibrary([], []), [CUDA]: driverless });
    const { code, stdout } = await setup(["--check", "--into", into]);
    if (code === 0) assert.match(stdout, /all libraries found: libcuda\.so\.1/);
    else assert.match(stdout, /missing: libcuda\.so\.1\nlibcuda\.so\.1 comes with the NVIDIA driver/);
  });

  it("refuses libraries of another version, and leaves what is in place", async () => {
    const into = folder({ [CUDA]: "old" });
    const from = folder({ [SHARED]: fakeLibrary([], []), [CUDA]: provider("1.2.3") });
    const { code, stderr } = await setup(["--from-dir", from, "--into", into]);
    assert.equal(code, 1);
    assert.ok(stderr.includes(`is of version 1.2.3, but the installed onnxruntime-node is ${VERSION}`), stderr);
    assert.equal(readFileSync(path.join(into, CUDA), "utf8"), "old");
  });

  it("says what a folder lacks", async () => {
    const { code, stderr } = await setup(["--from-dir", folder({ [SHARED]: "x" }), "--into", folder()]);
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`lacks ${CUDA}`));
  });

  describe("from a wheel", () => {
    function wheel(name: string, version: string, library: Buffer): string {
      const archive = new AdmZip();
      archive.addFile(`onnxruntime/capi/${SHARED}`, fakeLibrary([], []));
      archive.addFile(`onnxruntime/capi/${CUDA}`, library);
      archive.addFile(`${name}-${version}.dist-info/METADATA`, Buffer.from(`Name: ${name}\nVersion: ${version}\n`));
      return path.join(folder({ "some.whl": archive.toBuffer() }), "some.whl");
    }

    it("takes the libraries", async () => {
      const into = folder();
      const file = wheel("onnxruntime-gpu", VERSION, provider(VERSION));
      const { code, stdout } = await setup(["--from-wheel", file, "--into", into]);
      assert.equal(code, 3, stdout);
      assert.deepEqual(readFileSync(path.join(into, CUDA)), provider(VERSION));
    });

    it("refuses another version, another package, and what is no wheel", async () => {
      const other = await setup(["--from-wheel", wheel("onnxruntime-gpu", "1.2.3", provider("1.2.3"))]);
      assert.match(other.stderr, /some\.whl is of version 1\.2\.3, but the installed/);
      const cpuOnly = await setup(["--from-wheel", wheel("onnxruntime", VERSION, provider(VERSION))]);
      assert.match(cpuOnly.stderr, /is no wheel of onnxruntime-gpu but of onnxruntime/);
      const text = await setup(["--from-wheel", path.join(folder({ "a.whl": "no zip" }), "a.whl")]);
      assert.match(text.stderr, /is no zip archive/);
      for (const { code } of [other, cpuOnly, text]) assert.equal(code, 1);
    });
  });

  describe("from a feed", () => {
    let server: Server;
    let feed: string;
    const packages = new Map<string, Buffer>();
    before(async () => {
      server = createServer((request, response) => {
        const base = `http://${request.headers.host}/flat`;
        const url = request.url ?? "";
        const json = (value: unknown): void => void response.end(JSON.stringify(value));
        const bytes = packages.get(url);
        if (url === "/index.json") json({ resources: [{ "@id": `${base}/`, "@type": "PackageBaseAddress/3.0.0" }] });
        else if (url === "/empty.json") json({ resources: [] });
        else if (url === `/flat/${PACKAGE}/index.json`) json({ versions: ["1.2.3", VERSION] });
        else if (bytes !== undefined) response.end(bytes);
        else response.writeHead(404).end();
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      feed = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    after(() => server.close());

    function offer(version: string): void {
      const archive = new AdmZip();
      archive.addFile(`runtimes/linux-x64/native/${SHARED}`, fakeLibrary([], []));
      archive.addFile(`runtimes/linux-x64/native/${CUDA}`, provider(version));
      archive.addFile(`runtimes/win-x64/native/${CUDA}`, Buffer.from("not this one"));
      packages.clear();
      packages.set(`/flat/${PACKAGE}/${VERSION}/${PACKAGE}.${VERSION}.nupkg`, archive.toBuffer());
    }

    it("takes the libraries of the installed runtime's version", async () => {
      offer(VERSION);
      const into = folder();
      const { code, stdout } = await setup(["--from-feed", `${feed}/index.json`, "--into", into]);
      assert.equal(code, 3, stdout);
      assert.deepEqual(readFileSync(path.join(into, CUDA)), provider(VERSION));
    });

    it("refuses a package whose library is of another version than it says", async () => {
      offer("1.2.3");
      const { code, stderr } = await setup(["--from-feed", `${feed}/index.json`, "--into", folder()]);
      assert.equal(code, 1);
      assert.match(stderr, /is of version 1\.2\.3/);
    });

    it("says what is wrong with a feed", async () => {
      packages.clear();
      const notThere = await setup(["--from-feed", `${feed}/index.json`]);
      assert.match(notThere.stderr, /nupkg answered 404/);
      const noFeed = await setup(["--from-feed", `${feed}/empty.json`]);
      assert.match(noFeed.stderr, /is no NuGet feed/);
      const unreachable = await setup(["--from-feed", "http://127.0.0.1:9/index.json"]);
      assert.match(unreachable.stderr, /can't be reached .*Take the libraries from a wheel or a folder instead/);
      for (const { code } of [notThere, noFeed, unreachable]) assert.equal(code, 1);
    });
  });

  it("refuses two sources at once", async () => {
    const { code, stderr } = await setup(["--check", "--from-dir", "x"]);
    assert.equal(code, 2);
    assert.match(stderr, /one source at a time/);
  });

  it("reads versions only where they stand by themselves", () => {
    assert.deepEqual(versionsIn(Buffer.from("x1.2.3\0\x001.30.0\0 1.4.5\0\x001.7.x\0")), ["1.30.0"]);
  });
});
