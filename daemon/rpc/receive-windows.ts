/**
 * How much the server's connections and calls may be sent before the daemon has read what came so far. With HTTP/2's own 64 KiB a caller
 * waits for this process after every few tensors; grpc-js takes a larger window from clients alone (grpc/grpc-node#3058 proposes it for
 * servers), so its servers are made with one here. Much more would be in nobody's interest: what is on its way has a deadline, too.
 */
import http2 from "node:http2";

const WINDOW_BYTES = 256 * 1024;
let widened = false;

/** For every HTTP/2 server that this process makes from now on. */
export function widenReceiveWindows(): void {
  if (widened) return;
  widened = true;
  const { createServer, createSecureServer } = http2;
  Object.assign(http2, { createServer: widening(createServer), createSecureServer: widening(createSecureServer) });
}

type ServerOptions = http2.ServerOptions | http2.SecureServerOptions;

function widening(create: (options: ServerOptions) => http2.Http2Server | http2.Http2SecureServer) {
  return (options: ServerOptions): http2.Http2Server | http2.Http2SecureServer => {
    const settings = { ...options.settings, initialWindowSize: WINDOW_BYTES };
    const server = create({ ...options, settings });
    // The setting is for calls; the connection that they share has a window of its own.
    server.on("session", (session) => session.setLocalWindowSize(WINDOW_BYTES));
    return server;
  };
}
