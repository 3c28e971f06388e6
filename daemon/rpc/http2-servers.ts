/**
 * What the HTTP/2 servers below grpc-js are made with, which takes these options from clients alone or not at all: so that callers need
 * not wait for this process while they send, and may give up as many calls as they like.
 */
import http2 from "node:http2";

/**
 * How much a connection and a call may be sent before the daemon has read what came so far. With HTTP/2's own 64 KiB a caller waits for this
 * process after every few tensors (grpc/grpc-node#3058 proposes it for servers). Much more would be in nobody's interest: what is on its way
 * has a deadline, too.
 */
const WINDOW_BYTES = 256 * 1024;

/**
 * Calls that a connection's callers may give up at once, and each second: more than a daemon can take. Where deadlines pass, clients reset
 * their calls; Node allows 1,000, then 33 a second, against floods of resets (CVE-2023-44487), and ends the connection and all its other
 * calls with INTERNAL (grpc/grpc-node#2872). Whoever may call can flood a daemon with calls as well. Node has no option for it before 22.10.
 */
const RESETS_MAX = 100_000;

let areSet = false;

/** For every HTTP/2 server that this process makes from now on. */
export function setHttp2Options(): void {
  if (areSet) return;
  areSet = true;
  const { createServer, createSecureServer } = http2;
  Object.assign(http2, {
    createServer: withOptions(createServer),
    createSecureServer: withOptions(createSecureServer),
  });
}

type ServerOptions = http2.ServerOptions | http2.SecureServerOptions;

function withOptions(create: (options: ServerOptions) => http2.Http2Server | http2.Http2SecureServer) {
  return (options: ServerOptions): http2.Http2Server | http2.Http2SecureServer => {
    const resets = { streamResetBurst: RESETS_MAX, streamResetRate: RESETS_MAX };
    const settings = { ...options.settings, initialWindowSize: WINDOW_BYTES };
    const server = create({ ...options, ...resets, settings });
    // The setting is for calls; the connection that they share has a window of its own.
    server.on("session", (session) => session.setLocalWindowSize(WINDOW_BYTES));
    return server;
  };
}
