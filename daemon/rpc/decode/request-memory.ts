/** Memory that a request takes besides its message, counted before it is taken. Both throw `RpcError` where there isn't as much. */
export interface RequestMemory {
  takeBytes(bytes: number): void;
  /** For elements of a BYTES input: each is an object, however short it is. */
  takeStrings(input: string, elements: number): void;
}
