/**
 * grpc-js gives HTTP/2 the next message of a stream when the one before has been written, so each costs a turn of the event loop and a
 * system call of its own. Answers of one batch come together: here each is handed over at once, and HTTP/2 writes them together.
 */
import { ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";

/** An encoded answer of a stream. How many are on their way is for whoever writes them to limit. */
export interface StreamAnswer {
  readonly bytes: Buffer;
  /** Called when the connection has taken it; not at all where the call ends before. */
  readonly written: () => void;
}

/** What grpc-js is given as serialiser. */
export function serializeAnswer({ bytes }: StreamAnswer): Buffer {
  return bytes;
}

class EagerCall extends ServerInterceptingCall {
  override sendMessage(answer: StreamAnswer, handedOver: () => void): void {
    super.sendMessage(answer, answer.written);
    handedOver();
  }
}

/** For the method of this path, whose messages are `StreamAnswer`s; other calls stay as they are. */
export function eagerWrites(path: string): ServerInterceptor {
  // A call that nothing is added to need not be wrapped, whatever the declared type says.
  return (method, call) => (method.path === path ? new EagerCall(call) : (call as ServerInterceptingCall));
}
