/** Decodes InferTensorContents: typed contents, which slackline never sends but other servers of the protocol do. */
import { ARRAY_CLASSES, type Datatype, type TensorDataByDatatype } from "../datatypes.ts";
import { MalformedMessage, type Reader } from "./reader.ts";
import { LENGTH } from "./writer.ts";

/** Reads one element of each of the message's fields, by field number. */
const READ_ELEMENT: Readonly<Record<number, (reader: Reader) => number | bigint>> = {
  1: (reader) => reader.varint(),
  2: (reader) => reader.varint(),
  3: (reader) => BigInt.asIntN(64, reader.varint64()),
  4: (reader) => reader.varint(),
  5: (reader) => reader.varint64(),
  6: (reader) => reader.float(),
  7: (reader) => reader.double(),
};

/** The field in which elements of a datatype travel. */
const FIELD: Readonly<Partial<Record<Datatype, number>>> = {
  BOOL: 1,
  INT8: 2,
  INT16: 2,
  INT32: 2,
  INT64: 3,
  UINT8: 4,
  UINT16: 4,
  UINT32: 4,
  UINT64: 5,
  FP32: 6,
  FP64: 7,
  BYTES: 8,
};

/** The elements in the field that fits the datatype; none where there is no contents message. */
export function decodeContents(datatype: Datatype, reader: Reader | null): TensorDataByDatatype[Datatype] {
  const wanted = FIELD[datatype];
  if (wanted === undefined) throw new MalformedMessage(`${datatype} travels raw only`);
  const numbers: (number | bigint)[] = [];
  const strings: Uint8Array[] = [];
  const readElement = READ_ELEMENT[wanted];
  while (reader?.more) {
    const tag = reader.varint();
    if (tag >>> 3 !== wanted) reader.skip(tag);
    else if (readElement === undefined) strings.push(reader.bytes());
    else if ((tag & 7) === LENGTH)
      for (const packed = reader.nested(); packed.more; ) numbers.push(readElement(packed));
    else numbers.push(readElement(reader));
  }
  if (datatype === "BYTES") return strings;
  const ArrayClass = ARRAY_CLASSES[datatype] as unknown as {
    from(elements: readonly (number | bigint)[]): TensorDataByDatatype[Datatype];
  };
  return ArrayClass.from(numbers);
}
