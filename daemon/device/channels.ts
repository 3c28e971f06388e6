/** The two lines between daemon and session thread: a local socket, and a worker's message port. */
import type { Socket } from "node:net";
import type { MessagePort, Transferable, Worker } from "node:worker_threads";
import { encodeHeader, FrameReader } from "./frames.ts";
import type { Channel } from "./messages.ts";

const EMPTY = new Uint8Array(0);

type Listener<In> = (message: In, payload: Uint8Array, buffer: ArrayBuffer | null) => void;

/** Frames on a stream socket. Errors of the socket are left to whoever watches over the process at its other end. */
export function socketChannel<Out, In>(socket: Socket): Channel<Out, In> {
  let listener: Listener<In> = () => {};
  const reader = new FrameReader<In>(({ message, payload }) => listener(message, payload, null));
  socket.on("data", (chunk: Buffer) => reader.push(chunk));
  socket.on("error", () => socket.destroy());
  return {
    send(message, payload = []) {
      if (socket.destroyed) return;
      const payloadBytes = payload.reduce((sum, part) => sum + part.byteLength, 0);
      const header = encodeHeader(message, payloadBytes);
      if (payloadBytes === 0) {
        socket.write(header);
        return;
      }
      socket.cork();
      socket.write(header);
      for (const part of payload) if (part.byteLength > 0) socket.write(part);
      socket.uncork();
    },
    onMessage(callback) {
      listener = callback;
    },
    close() {
      socket.destroy();
    },
  };
}

interface Posted<Message> {
  readonly message: Message;
  readonly payload: Uint8Array | null;
  readonly buffer: ArrayBuffer | null;
}

/** Structured clones through a worker's port; slots move with their message. */
export function portChannel<Out, In>(port: MessagePort | Worker): Channel<Out, In> {
  return {
    send(message, payload = [], buffer) {
      const transfer: Transferable[] = buffer === undefined ? [] : [buffer];
      const posted: Posted<Out> = {
        message,
        payload: payload.length === 0 ? null : Buffer.concat(payload),
        buffer: buffer ?? null,
      };
      port.postMessage(posted, transfer);
    },
    onMessage(listener: Listener<In>) {
      port.on("message", ({ message, payload, buffer }: Posted<In>) => listener(message, payload ?? EMPTY, buffer));
    },
    close() {
      if ("close" in port) port.close();
    },
  };
}
