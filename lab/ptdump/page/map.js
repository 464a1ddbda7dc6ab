// The map: rows of equal size, one below the other; rows with nothing in them are folded.

const ROW = 22; // pixels from row to row
const BAR = 16; // of which are drawn
const GAP = (ROW - BAR) / 2;
const LEFT = 128; // for the addresses
const RIGHT = 104; // for the slots
const LONGEST = 12e6; // pixels that a browser scrolls over
const FINEST = 8; // pages in a row, at least
const $ = (id) => document.getElementById(id);
const view = $("view");
const canvas = $("map");
const context = canvas.getContext("2d");
const limit = 2 ** (dump.ipaBits - 12);

const COLOURS = {
  size: [
    ["4K page", "#0072b2"], ["2M block", "#e69f00"], ["1G block", "#cc79a7"], ["not a mapping", "#d43d2a"],
  ],
  perm: [
    ["r--", "#56b4e9"], ["rw-", "#0072b2"], ["r-x", "#e69f00"], ["rwx", "#d55e00"], ["no read", "#8a8f98"],
    ["not a mapping", "#d43d2a"],
  ],
  dirty: [["dirty", "#d55e00"], ["clean", "#009e73"], ["no dirty log", "#a3abb7"], ["not a mapping", "#d43d2a"]],
};
const PERMS = ["r--", "rw-", "r-x", "rwx"];
const DIRTY = 0;

let mode = "size";
let rowPages = 512;
let rows = []; // {first, count, top}: rows of the map by their number; count 0 is a fold
let total = 0;
let selected = -1;
let css = {};

// --- what a run's colour is ---

function colourOf(run) {
  const attr = dump.attrs[entries.attr[run]];
  const table = COLOURS[mode];
  if (attr.prot === "" || attr.kind === "reserved") return table.length - 1;
  if (mode === "size") return 3 - attr.level;
  if (mode === "perm") {
    const known = PERMS.indexOf(attr.prot);
    return known >= 0 ? known : attr.prot[0] !== "r" ? 4 : attr.prot[1] === "w" ? 3 : 2;
  }
  const slot = slotAt(entries.start[run]);
  return slot && slot.dirty ? 1 : 2;
}

function overlap(start, end) {
  let sum = 0;
  for (let i = firstBehind(dirty, start); i < dirty.count && dirty.start[i] < end; i += 1) {
    sum += Math.min(end, dirty.end[i]) - Math.max(start, dirty.start[i]);
  }
  return sum;
}

// --- rows ---

// What must be seen: all that is mapped, and the ends of slots, joined where they touch.
const parts = (() => {
  const all = dump.slots.flatMap((slot) => {
    const behind = slot.ipa + slot.pages;
    return [[slot.ipa, slot.ipa + 1], [behind - 1, behind]];
  });
  for (let i = 0; i < entries.count; i += 1) all.push([entries.start[i], entries.end[i]]);
  all.sort((a, b) => a[0] - b[0]);
  const joined = [];
  for (const [start, end] of all) {
    const last = joined[joined.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else joined.push([start, end]);
  }
  return joined;
})();

function layOut() {
  rows = [];
  total = 0;
  let next = 0; // the first row that is not laid out
  const add = (first, behind, folded) => {
    const last = rows[rows.length - 1];
    // A fold of one row would save nothing.
    const count = folded && behind - first > 1 ? 0 : behind - first;
    if (last && last.count && count) {
      last.count += count;
      last.behind = behind;
    } else {
      rows.push({ first, count, behind, top: total });
    }
    total += (count || 1) * ROW;
    next = behind;
  };
  for (const [start, end] of parts) {
    const first = Math.max(Math.floor(start / rowPages), next);
    const behind = Math.ceil(end / rowPages);
    if (behind <= first) continue;
    if (first > next) add(next, first, true);
    add(first, behind, false);
  }
  const all = Math.ceil(limit / rowPages);
  if (next < all) add(next, all, true);
  $("space").style.height = Math.max(total - canvas.clientHeight, 0) + "px";
  $("scale").textContent = `${size(rowPages)} a row`;
}

function heightOf(pages) {
  const keep = rowPages;
  rowPages = pages;
  layOut();
  const height = total;
  rowPages = keep;
  return height;
}

function part(y) {
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].top <= y) low = middle;
    else high = middle - 1;
  }
  return rows[low];
}

function topOf(page) {
  const row = Math.floor(page / rowPages);
  const found = rows.find((each) => each.first <= row && row < each.behind);
  return found.top + (found.count ? (row - found.first) * ROW : 0);
}

function pageAt(x, y) {
  if (y < 0 || y >= total || x < LEFT || x >= LEFT + width()) return -1;
  const found = part(y);
  if (!found.count) return -1;
  const row = found.first + Math.floor((y - found.top) / ROW);
  const page = row * rowPages + Math.floor(((x - LEFT) / width()) * rowPages);
  return page < limit ? page : -1;
}

function width() {
  return Math.max(canvas.clientWidth - LEFT - RIGHT, 1);
}

// --- drawing ---

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; paint(); });
}

function paint() {
  const scale = window.devicePixelRatio || 1;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.fillStyle = css.panel;
  context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  context.font = "12px ui-monospace, monospace";
  context.textBaseline = "middle";
  const top = view.scrollTop;
  const bottom = top + canvas.clientHeight;
  if (!rows.length) return;
  for (let i = rows.indexOf(part(top)); i < rows.length && rows[i].top < bottom; i += 1) {
    const each = rows[i];
    if (!each.count) { paintFold(each, each.top - top); continue; }
    const from = Math.max(Math.floor((top - each.top) / ROW), 0);
    const to = Math.min(each.count, Math.ceil((bottom - each.top) / ROW));
    for (let row = from; row < to; row += 1) paintRow(each.first + row, each.top + row * ROW - top);
  }
}

function paintFold(each, y) {
  const start = each.first * rowPages;
  const pages = Math.min(each.behind * rowPages, limit) - start;
  const slot = dump.slots.find((one) => one.ipa <= start && start < one.ipa + one.pages);
  if (slot) {
    context.fillStyle = css.slot;
    context.fillRect(LEFT, y, width(), ROW);
    context.strokeStyle = css.edge;
    context.setLineDash(slot.readOnly ? [4, 3] : []);
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(LEFT + 0.5, y);
    context.lineTo(LEFT + 0.5, y + ROW);
    context.moveTo(LEFT + width() - 0.5, y);
    context.lineTo(LEFT + width() - 0.5, y + ROW);
    context.stroke();
    context.lineWidth = 1;
  }
  context.strokeStyle = css.fold;
  context.setLineDash([3, 4]);
  context.beginPath();
  context.moveTo(LEFT + 8, y + ROW / 2 - 0.5);
  context.lineTo(LEFT + width() - 8, y + ROW / 2 - 0.5);
  context.stroke();
  context.setLineDash([]);
  const text = `  nothing mapped for ${about(pages)}  `;
  const middle = LEFT + width() / 2;
  context.textAlign = "center";
  context.fillStyle = slot ? css.slot : css.panel;
  const wide = context.measureText(text).width;
  context.fillRect(middle - wide / 2, y + 1, wide, ROW - 2);
  context.fillStyle = css.soft;
  context.fillText(text, middle, y + ROW / 2);
}

function paintRow(row, y) {
  const start = row * rowPages;
  const end = Math.min(start + rowPages, limit);
  const pixel = width() / rowPages;
  const x = (page) => LEFT + (Math.min(Math.max(page, start), end) - start) * pixel;
  context.textAlign = "right";
  context.fillStyle = css.soft;
  context.fillText(hex(start), LEFT - 12, y + ROW / 2);
  context.fillStyle = css.hole;
  context.fillRect(LEFT, y + GAP, x(end) - LEFT, BAR);
  const names = [];
  for (const slot of dump.slots) {
    if (slot.ipa >= end || slot.ipa + slot.pages <= start) continue;
    context.fillStyle = css.slot;
    context.fillRect(x(slot.ipa), y, x(slot.ipa + slot.pages) - x(slot.ipa), ROW);
    if (slot.ipa >= start) names.push(`${slot.id}${slot.readOnly ? " ro" : ""}`);
  }
  if (names.length) {
    context.fillStyle = css.ink;
    context.textAlign = "left";
    context.fillText(`slot ${names.join(", ")}`, LEFT + width() + 8, y + ROW / 2);
  }
  paintRuns(start, end, y, pixel);
  for (const slot of dump.slots) outline(slot, start, end, y, x);
  if (selected >= start && selected < end) paintSelection(y, x);
}

function paintRuns(start, end, y, pixel) {
  const table = COLOURS[mode];
  paintRanges(entries, start, end, y, pixel, (run) => table[colourOf(run)][1]);
  if (mode === "dirty") paintRanges(dirty, start, end, y, pixel, () => table[DIRTY][1]);
  for (let i = firstBehind(entries, start); i < entries.count && entries.start[i] < end; i += 1) {
    // Where this entry is too small for a grid, larger ones are not worth the search.
    if (dump.attrs[entries.attr[i]].pages * pixel < 5) return;
    paintGrid(i, Math.max(entries.start[i], start), Math.min(entries.end[i], end), start, y, pixel);
  }
}

function paintRanges(ranges, start, end, y, pixel, colour) {
  for (let i = firstBehind(ranges, start); i < ranges.count && ranges.start[i] < end;) {
    const from = Math.max(ranges.start[i], start);
    const to = Math.min(ranges.end[i], end);
    context.fillStyle = colour(i);
    context.fillRect(LEFT + (from - start) * pixel, y + GAP, Math.max((to - from) * pixel, 1), BAR);
    // What shares this one's last pixel would not be seen.
    const next = firstBehind(ranges, Math.max(to, from + 1 / pixel) - 1e-9);
    i = next > i ? next : i + 1;
  }
}

function paintGrid(run, from, to, start, y, pixel) {
  const each = dump.attrs[entries.attr[run]].pages;
  context.fillStyle = css.slot;
  for (let page = from + each - ((from - entries.start[run]) % each); page <= to; page += each) {
    context.fillRect(LEFT + (page - start) * pixel - 1, y + GAP, 1, BAR);
  }
}

function outline(slot, start, end, y, x) {
  const behind = slot.ipa + slot.pages;
  if (slot.ipa >= end || behind <= start) return;
  const left = Math.round(x(slot.ipa)) + 0.5;
  const right = Math.round(x(behind)) - 0.5;
  context.strokeStyle = css.edge;
  context.lineWidth = 1.5;
  context.setLineDash(slot.readOnly ? [4, 3] : []);
  context.beginPath();
  context.moveTo(left, y);
  context.lineTo(left, y + ROW);
  context.moveTo(right, y);
  context.lineTo(right, y + ROW);
  // An edge is where the row above or below is not the slot's.
  const upper = Math.min(behind, slot.ipa + rowPages);
  if (upper > start) { context.moveTo(left, y + 0.5); context.lineTo(x(upper), y + 0.5); }
  const lower = Math.max(slot.ipa, behind - rowPages);
  if (lower < end) { context.moveTo(x(lower), y + ROW - 0.5); context.lineTo(right, y + ROW - 0.5); }
  context.stroke();
  context.setLineDash([]);
  context.lineWidth = 1;
}

function paintSelection(y, x) {
  const run = at(entries, selected);
  const entry = run < 0 ? { page: selected, pages: 1 } : entryAt(run, selected);
  const left = x(entry.page);
  const wide = Math.max(x(entry.page + entry.pages) - left, 4);
  context.strokeStyle = css.ink;
  context.lineWidth = 3;
  context.strokeRect(left - 1, y + 1, wide + 2, BAR + 2);
  context.strokeStyle = css.panel;
  context.lineWidth = 1;
  context.strokeRect(left - 1, y + 1, wide + 2, BAR + 2);
}
