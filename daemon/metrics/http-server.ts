import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { DaemonStatus } from "../status.ts";

/** What the pages show; each is asked for anew with every request. */
export interface HttpPages {
  /** Prometheus's text format. */
  readonly metrics: () => Promise<string>;
  /** Whether every model that can be served is, and requests are taken; else why not. */
  readonly readiness: () => { readonly ready: boolean; readonly reason: string };
  readonly status: () => DaemonStatus;
}

const CONTENT_TYPE_METRICS = "text/plain; version=0.0.4; charset=utf-8";
const CONTENT_TYPE_TEXT = "text/plain; charset=utf-8";

/** How long a slow client may take with a request's head; pages have no bodies to wait for. */
const REQUEST_TIMEOUT_MS = 10_000;

/** Health, metrics and status over HTTP: `/healthz`, `/readyz`, `/metrics`, `/status`. */
export class HttpServer {
  readonly #server: Server;
  readonly #pages: HttpPages;

  constructor(pages: HttpPages) {
    this.#pages = pages;
    this.#server = createServer(
      { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
      (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          if (!response.headersSent) send(response, 500, `the page could not be made: ${(error as Error).message}\n`);
          else response.destroy();
        });
      },
    );
    this.#server.on("clientError", (_error, socket) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
  }

  /**
   * Starts listening.
   *
   * @param port 0 picks a free one
   * @returns the port
   * @throws Error with a sentence where the address can't be had
   */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      this.#server.listen(port, host, () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  /** Ends when all connections have. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0];
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      send(response, 405, "only GET and HEAD are answered here; inference is on the gRPC port\n");
      return;
    }
    switch (path) {
      case "/healthz":
        send(response, 200, "ok\n");
        return;
      case "/readyz": {
        const { ready, reason } = this.#pages.readiness();
        send(response, ready ? 200 : 503, ready ? "ready\n" : `not ready: ${reason}\n`);
        return;
      }
      case "/metrics":
        send(response, 200, await this.#pages.metrics(), CONTENT_TYPE_METRICS);
        return;
      case "/status":
        send(response, 200, `${JSON.stringify(this.#pages.status())}\n`, "application/json");
        return;
      default:
        send(response, 404, "pages: /healthz /readyz /metrics /status\n");
    }
  }
}

function send(response: ServerResponse, status: number, body: string, type: string = CONTENT_TYPE_TEXT): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
  });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const why: Readonly<Record<string, string>> = {
    EADDRINUSE: "the port is in use; stop what uses it, or give another one with --http-port (0 picks a free one)",
    EACCES: "permission denied; ports below 1024 are reserved, give another one with --http-port",
    EADDRNOTAVAIL: "this machine has no such address; give another one with --host",
    ENOTFOUND: "the host name is not known; give another one with --host",
  };
  const reason = why[error.code ?? ""] ?? error.message;
  return new Error(`can't listen for HTTP on ${host}:${port}: ${reason}`, { cause: error });
}
