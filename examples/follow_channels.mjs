// Follows the channels of a namespace, with nothing but Node: prints each event as a line of JSON.
//
//   node follow_channels.mjs HOST:PORT|/path/of/a/socket [NAMESPACE] [lifecycle] [state] [activity] [trace]
//
// What a message holds stands in docs/reference/channels.md. Pub/Sub loses messages in silence, so a message that
// does not begin where the last one of its channel ended is told as a gap: then the log has to be read.

import net from "node:net";

const [place, namespace = "default", ...asked] = process.argv.slice(2);
const names = asked.length ? asked : ["lifecycle", "state", "activity"];
const socket = place.startsWith("/") ? net.connect(place) : net.connect(place.split(":")[1], place.split(":")[0]);
const ends = new Map(); // channel -> the feed position where its last message ended

// -- msgpack: what a value is, and where the next one begins --------------------------------------------------------

// In a message all texts and bytes are msgpack's str, whatever they hold: `raw` leaves them as bytes.
function unpack(data, at = 0, raw = false) {
  const kind = data[at++];
  const text = (size) => [raw ? data.subarray(at, at + size) : data.toString("utf8", at, at + size), at + size];
  const bytes = (size) => [data.toString("hex", at, at + size), at + size];
  const whole = (big) => (Number.isSafeInteger(Number(big)) ? Number(big) : String(big));
  const list = (size) => {
    const found = [];
    for (let i = 0; i < size; i++) [found[i], at] = unpack(data, at, raw);
    return [found, at];
  };
  const map = (size) => {
    const flat = list(2 * size)[0];
    return [Object.fromEntries(Array.from({ length: size }, (_, i) => [String(flat[2 * i]), flat[2 * i + 1]])), at];
  };
  const size = (width) => ((at += width), data.readUIntBE(at - width, width));
  if (kind < 0x80) return [kind, at];
  if (kind < 0x90) return map(kind & 0x0f);
  if (kind < 0xa0) return list(kind & 0x0f);
  if (kind < 0xc0) return text(kind & 0x1f);
  if (kind >= 0xe0) return [kind - 256, at];
  switch (kind) {
    case 0xc0: return [null, at];
    case 0xc2: return [false, at];
    case 0xc3: return [true, at];
    case 0xc4: return bytes(size(1));
    case 0xc5: return bytes(size(2));
    case 0xc6: return bytes(size(4));
    case 0xca: return [data.readFloatBE(at), at + 4];
    case 0xcb: return [data.readDoubleBE(at), at + 8];
    case 0xcc: return [data.readUInt8(at), at + 1];
    case 0xcd: return [data.readUInt16BE(at), at + 2];
    case 0xce: return [data.readUInt32BE(at), at + 4];
    case 0xcf: return [whole(data.readBigUInt64BE(at)), at + 8];
    case 0xd0: return [data.readInt8(at), at + 1];
    case 0xd1: return [data.readInt16BE(at), at + 2];
    case 0xd2: return [data.readInt32BE(at), at + 4];
    case 0xd3: return [whole(data.readBigInt64BE(at)), at + 8];
    case 0xc7: { // the one extension there is: µs since the epoch, then the offset from UTC in seconds
      const length = size(1);
      const time = new Date(Number(data.readBigInt64BE(at + 1) / 1000n)).toISOString();
      return [time, at + 1 + length];
    }
    case 0xd9: return text(size(1));
    case 0xda: return text(size(2));
    case 0xdb: return text(size(4));
    case 0xdc: return list(size(2));
    case 0xdd: return list(size(4));
    case 0xde: return map(size(2));
    case 0xdf: return map(size(4));
  }
  throw new Error(`not msgpack as duramen writes it: 0x${kind.toString(16)}`);
}

// -- what to do with a message ---------------------------------------------------------------------------------------

const print = (line) => console.log(JSON.stringify(line));

function take(channel, payload) {
  const [previous, position, rows] = unpack(payload, 0, true)[0];
  const ended = ends.get(channel);
  if (ended !== undefined && ended !== previous) print({ gap: channel, after: ended, missed_up_to: previous });
  ends.set(channel, position);
  if (rows === false) print({ too_many: channel, read_from: previous, up_to: position });
  for (const [agent, first, items] of rows || []) {
    items.forEach((item, i) => {
      const [type, , , time, data] = unpack(item, 16)[0]; // behind the digest
      print({ agent: agent.toString(), seq: first + i, type, time: new Date(time / 1000).toISOString(), data });
    });
  }
}

// -- the server's protocol: lists of byte strings ----------------------------------------------------------------------

// The reply that begins at `at` and where the next one begins; null while a part of it is missing.
function reply(data, at) {
  const end = data.indexOf("\r\n", at);
  if (end < 0) return null;
  const kind = String.fromCharCode(data[at]);
  const line = data.toString("utf8", at + 1, end);
  if (kind === "-") throw new Error(line);
  if (kind === "$") {
    const stop = end + 2 + Number(line);
    return stop + 2 <= data.length ? [data.subarray(end + 2, stop), stop + 2] : null;
  }
  if (kind !== "*") return [line, end + 2];
  const parts = [];
  let next = end + 2;
  for (let i = 0; i < Number(line); i++) {
    const part = reply(data, next);
    if (part === null) return null;
    parts.push(part[0]);
    next = part[1];
  }
  return [parts, next];
}

let waiting = Buffer.alloc(0);
socket.on("data", (data) => {
  waiting = Buffer.concat([waiting, data]);
  for (let found; (found = reply(waiting, 0)) !== null; waiting = waiting.subarray(found[1])) {
    const [kind, , channel, payload] = found[0];
    if (String(kind) === "pmessage") take(String(channel), payload);
    else print({ following: String(found[0][1]) });
  }
});
socket.on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
});

const patterns = names.map((name) => `duramen:{${namespace}:*}:${name}`);
const command = ["PSUBSCRIBE", ...patterns].map((text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`);
socket.write(`*${command.length}\r\n${command.join("")}`);
