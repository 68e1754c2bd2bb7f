// A reader of docs/wire-format.md in plain JavaScript: what a page or a service in another language needs.
// Written from that page alone. `node decoder.mjs VECTORS PAGE` prints what it read of each vector as JSON lines; names and scales of the
// fields are those of the page's tables.

import { inflateSync } from "node:zlib";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const SOURCES = ["none", "last_known", "ntp", "gnss"];
const MOST_BYTES = 1024 * 1024;

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  byte() {
    if (this.at >= this.bytes.length) throw new Error("cut off");
    return this.bytes[this.at++];
  }

  number(size, read) {
    const at = this.at;
    this.at += size;
    if (this.at > this.bytes.length) throw new Error("cut off");
    return read.call(this.view, at);
  }

  take(count) {
    this.at += count;
    if (this.at > this.bytes.length) throw new Error("cut off");
    return this.bytes.subarray(this.at - count, this.at);
  }

  // Unsigned LEB128. BigInt only inside: what leaves are numbers below 2^53 or, beyond, BigInts.
  varint() {
    let value = 0n;
    for (let shift = 0n; shift < 63n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return plain(value);
    }
    throw new Error("a number is out of range");
  }

  msgpack() {
    const tag = this.byte();
    if (tag <= 0x7f) return tag;
    if (tag <= 0x8f) return this.map(tag & 15);
    if (tag <= 0x9f) return this.list(tag & 15);
    if (tag <= 0xbf) return this.text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    const view = DataView.prototype;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.take(this.number(1, view.getUint8));
      case 0xc5: return this.take(this.number(2, view.getUint16));
      case 0xc6: return this.take(this.number(4, view.getUint32));
      case 0xca: return this.number(4, view.getFloat32);
      case 0xcb: return this.number(8, view.getFloat64);
      case 0xcc: return this.number(1, view.getUint8);
      case 0xcd: return this.number(2, view.getUint16);
      case 0xce: return this.number(4, view.getUint32);
      case 0xcf: return plain(this.number(8, view.getBigUint64));
      case 0xd0: return this.number(1, view.getInt8);
      case 0xd1: return this.number(2, view.getInt16);
      case 0xd2: return this.number(4, view.getInt32);
      case 0xd3: return plain(this.number(8, view.getBigInt64));
      case 0xd9: return this.text(this.number(1, view.getUint8));
      case 0xda: return this.text(this.number(2, view.getUint16));
      case 0xdb: return this.text(this.number(4, view.getUint32));
      case 0xdc: return this.list(this.number(2, view.getUint16));
      case 0xdd: return this.list(this.number(4, view.getUint32));
      case 0xde: return this.map(this.number(2, view.getUint16));
      case 0xdf: return this.map(this.number(4, view.getUint32));
      default: throw new Error(`no msgpack of ours: ${tag}`);
    }
  }

  text(size) {
    return new TextDecoder("utf-8", { fatal: true }).decode(this.take(size));
  }

  list(count) {
    if (count > 4097) throw new Error("a list is too long");
    return Array.from({ length: count }, () => this.msgpack());
  }

  map(count) {
    const entries = {};
    for (let n = 0; n < count; n++) entries[this.msgpack()] = this.msgpack();
    return entries;
  }
}

function plain(big) {
  const value = Number(big);
  return Number.isSafeInteger(value) ? value : big;
}

function values(column, count) {
  if (!Array.isArray(column)) return Array(count).fill(column);
  let there = column.slice(1).filter((value) => value !== null);
  for (let n = 0; n < column[0]; n++) {
    let sum = 0;
    there = there.map((value) => (sum += value));
  }
  let next = 0;
  return column.slice(1).map((value) => (value === null ? null : there[next++]));
}

// --- the tables of the page -------------------------------------------------------------------

// Fields of every kind, state and part, by the heading above their table: [{ name, type, scale }].
function tablesOf(page) {
  const tables = {};
  const numbers = {};
  let heading = "";
  for (const line of page.split("\n")) {
    const cells = line.split("|").map((cell) => cell.trim());
    if (line.startsWith("#")) heading = line.replace(/^#+ /, "").replaceAll("`", "");
    else if (/^\| \d+ \|/.test(line)) (tables[heading] ??= []).push(field(cells));
    else if (heading === "Kinds of records" && /^\| `/.test(line)) numbers[cells[2]] = cells[1].replaceAll("`", "");
  }
  return { tables, numbers };
}

function field(cells) {
  return { name: cells[2].replaceAll("`", ""), type: cells[3].replace(" or null", ""), scale: Number(cells[5]) };
}

// An array of fields as the object of the JSON form.
function named(tables, heading, array) {
  const told = {};
  tables[heading].forEach(({ name, type, scale }, at) => {
    const value = array[at] ?? null;
    if (type === "UTC") Object.assign(told, utc(name, value));
    else if (value === null) told[name] = null;
    else if (scale) told[name] = value / scale;
    else if (type === "position") told[name] = named(tables, "position", value);
    else if (type === "evidence") told[name] = named(tables, "An evidence", value);
    else told[name] = value;
  });
  return told;
}

function iso(ms) {
  return ms === null ? null : new Date(ms).toISOString().replace("Z", "+00:00");
}

function utc(name, value) {
  const [ms, source, uncertainty] = value ?? [null, 0, null];
  return { [name]: iso(ms), [`${name}_source`]: SOURCES[source] ?? "last_known", [`${name}_uncertainty_ms`]: uncertainty };
}

// --- payloads -----------------------------------------------------------------------------------

function readBatch(payload, unit, page) {
  const bytes = payload[0] === 0x78 ? inflateSync(payload, { maxOutputLength: MOST_BYTES }) : payload;
  const reader = new Reader(bytes);
  const first = reader.byte();
  if (first >> 4 !== 1) throw new Error(`a batch of version ${first >> 4}`);
  const stream = first & 8 ? "trail" : "events";
  const journal = reader.number(4, DataView.prototype.getUint32);
  const boot = reader.varint();
  const rows = first & 4 ? [readRow(reader)] : readColumns(reader);
  const records = rows.map(({ body, raw, utc_ms, source, kind_number, ...row }) => ({
    unit, stream, journal, boot, ...row,
    utc: iso(utc_ms),
    utc_source: SOURCES[source] ?? "last_known",
    kind: page.numbers[kind_number] ?? null,
    kind_number,
    data: page.numbers[kind_number]
      ? named(page.tables, page.numbers[kind_number], body)
      : { msgpack: Buffer.from(raw).toString("base64") },
  }));
  return { version: 1, history: Boolean(first & 1), replay: Boolean(first & 2), records };
}

function readRow(reader) {
  const [seq, tag, boottime_ms, utc, uncertainty] = Array.from({ length: 5 }, () => reader.varint());
  const stamp = { seq, tag, boottime_ms, utc_ms: utc ? utc - 1 : null, utc_uncertainty_ms: uncertainty ? uncertainty - 1 : null };
  if (tag >> 3 !== 4) return row(stamp, bodyOf(reader));
  const body = [];
  while (reader.at < reader.bytes.length) {
    const short = reader.varint();
    body.push(short === 0 ? null : short % 2 ? (short - 1) / 2 : -short / 2);
  }
  return row(stamp, { body });
}

function readColumns(reader) {
  if (reader.byte() !== 0x94) throw new Error("no batch of columns");
  const count = reader.msgpack();
  const [seqs, tags, utcs, offsets, uncertainties] = reader.msgpack().map((column) => values(column, count));
  const fixes = tags.filter((tag) => tag >> 3 === 4).length;
  const columns = reader.msgpack().map((column) => values(column, fixes));
  const others = bodiesOf(reader);
  let fix = -1;
  return seqs.map((seq, n) => {
    const stamp = { seq, tag: tags[n], boottime_ms: offsets[n] + (utcs[n] ?? 0), utc_ms: utcs[n], utc_uncertainty_ms: uncertainties[n] };
    if (tags[n] >> 3 !== 4) return row(stamp, others.shift());
    fix++;
    return row(stamp, { body: columns.map((column) => column[fix]) });
  });
}

// The bodies behind the columns, each with the bytes that it was read from.
function bodiesOf(reader) {
  const tag = reader.byte();
  const count = tag === 0xdc ? reader.number(2, DataView.prototype.getUint16) : tag & 15;
  return Array.from({ length: count }, () => bodyOf(reader));
}

function bodyOf(reader) {
  const from = reader.at;
  const body = reader.msgpack();
  return { body, raw: reader.bytes.subarray(from, reader.at) };
}

function row({ tag, ...stamp }, body) {
  return { ...stamp, kind_number: tag >> 3, source: tag & 7, ...body };
}

function readState(name, array, page) {
  if (array[0] !== 1) throw new Error(`a state of version ${array[0]}`);
  return { version: 1, ...named(page.tables, `state/${name}`, array.slice(1)) };
}

function read(topic, payload, page) {
  const [unit, area, name] = topic.split("/").slice(3);
  if (payload[0] === 0x7b) return JSON.parse(new TextDecoder().decode(payload));
  if (area === "journal") return readBatch(payload, unit, page);
  const value = new Reader(payload).msgpack();
  return area === "state" ? readState(name, value, page) : value;
}

const [folder, document] = process.argv.slice(2);
const page = tablesOf(readFileSync(document, "utf-8"));
for (const name of readdirSync(folder).sort()) {
  const vector = JSON.parse(readFileSync(join(folder, name), "utf-8"));
  const told = read(vector.topic, Buffer.from(vector.payload_hex, "hex"), page);
  console.log(JSON.stringify({ name, told }, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
}
