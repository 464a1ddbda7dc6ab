"use strict";
// The dump, and questions about it. Addresses are page numbers: they fit a double exactly.

const PAGE = 4096;
const dump = JSON.parse(document.getElementById("data").textContent);

const entries = (() => {
  const { ipa, n, attr, pa } = dump.entries;
  const start = Float64Array.from(ipa);
  const end = start.map((first, i) => first + n[i] * dump.attrs[attr[i]].pages);
  return { count: start.length, start, end, attr: Uint32Array.from(attr), pa: Float64Array.from(pa) };
})();

const dirty = (() => {
  const parts = dump.slots.flatMap((slot) => slot.dirty || []);
  return {
    count: parts.length,
    start: Float64Array.from(parts, (part) => part[0]),
    end: Float64Array.from(parts, (part) => part[0] + part[1]),
  };
})();

const tables = new Map(dump.tables.ipa.map((ipa, i) => [`${dump.tables.level[i]}:${ipa}`, dump.tables.pa[i]]));

// The first of some ascending ranges that ends behind a page.
function firstBehind(ranges, page) {
  let low = 0;
  let high = ranges.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges.end[middle] > page) high = middle;
    else low = middle + 1;
  }
  return low;
}

function at(ranges, page) {
  const i = firstBehind(ranges, page);
  return i < ranges.count && ranges.start[i] <= page ? i : -1;
}

function slotAt(page) {
  return dump.slots.find((slot) => slot.ipa <= page && page < slot.ipa + slot.pages);
}

function hex(page, offset = 0) {
  const digits = (BigInt(page) * 4096n + BigInt(offset)).toString(16).padStart(8, "0");
  return "0x" + digits.replace(/\B(?=([0-9a-f]{4})+$)/g, "_");
}

function size(pages) {
  let value = pages * 4;
  let unit = 0;
  while (value >= 1024 && value % 1024 === 0 && unit < 4) { value /= 1024; unit += 1; }
  return value + "KMGTP"[unit];
}

function about(pages) {
  let value = pages * 4;
  let unit = 0;
  while (value >= 1024 && unit < 4) { value /= 1024; unit += 1; }
  return (value < 10 ? Math.round(value * 10) / 10 : Math.round(value)) + "KMGTP"[unit];
}

// The entry of a run that covers a page: its place in the run, and where it begins.
function entryAt(run, page) {
  const each = dump.attrs[entries.attr[run]].pages;
  const index = Math.floor((page - entries.start[run]) / each);
  return { index, page: entries.start[run] + index * each, pages: each };
}

const SHIFT = [27, 18, 9, 0];

// Everything that is known of a page, as rows of a name and a text.
function describe(page) {
  const rows = [["IPA", hex(page)]];
  const slot = slotAt(page);
  const run = at(entries, page);
  if (run < 0) {
    rows.push(["entry", "none: not mapped"]);
  } else {
    const attr = dump.attrs[entries.attr[run]];
    const entry = entryAt(run, page);
    const valid = attr.prot !== "";
    const pa = entries.pa[run] + entry.index * entry.pages;
    rows[0][1] = `${hex(entry.page)}-${hex(entry.page + entry.pages)}`;
    rows.push(["entry", `level ${attr.level} ${size(entry.pages)} ${attr.kind}`]);
    if (valid) {
      rows.push(["PA", hex(pa)], ["rights", attr.prot], ["memory", `${attr.memory}, ${attr.share}`]);
      rows.push(["flags", `AF ${attr.af ? 1 : 0}, SW ${attr.sw}`]);
    } else {
      rows.push(["means", attr.annotation]);
    }
    const word = BigInt(attr.word) | (valid ? BigInt(pa) * 4096n : 0n);
    rows.push(["word", "0x" + word.toString(16).padStart(16, "0")]);
    const below = SHIFT[attr.level];
    const covers = attr.level === 4 - dump.levels ? Infinity : 2 ** (below + 9);
    const tableIpa = covers === Infinity ? 0 : Math.floor(entry.page / covers) * covers;
    const table = tables.get(`${attr.level}:${tableIpa}`);
    if (table !== undefined) {
      rows.push(["word at", `PA ${hexAt(table, ((entry.page - tableIpa) / 2 ** below) * 8)}`]);
    }
    const pages = entries.end[run] - entries.start[run];
    if (pages > entry.pages) rows.push(["run", `${pages / entry.pages} alike, from ${hex(entries.start[run])}`]);
  }
  if (slot) {
    rows.push(["slot", slotName(slot)]);
    if (slot.dirty) rows.push(["page", at(dirty, page) < 0 ? "clean" : "dirty"]);
  } else {
    rows.push(["slot", "none"]);
  }
  return rows;
}

function hexAt(page, offset) {
  return hex(page + Math.floor(offset / PAGE), offset % PAGE);
}

function slotName(slot) {
  return `${slot.id}${slot.readOnly ? ", read-only" : ""}${slot.dirty ? ", dirty log" : ""}`;
}
