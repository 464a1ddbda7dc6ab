// What keys, mouse and forms do, and what stands beside the map.

// --- moving ---

function fits(pages) {
  return pages >= FINEST && pages <= limit && heightOf(pages) <= LONGEST;
}

function zoom(factor, x = LEFT, y = canvas.clientHeight / 2) {
  const pages = rowPages * factor;
  const page = pageAt(x, view.scrollTop + y);
  const anchor = page >= 0 ? page : selected;
  const old = anchor >= 0 ? topOf(anchor) - view.scrollTop : 0;
  if (fits(pages)) rowPages = pages;
  layOut();
  if (anchor >= 0) view.scrollTop = topOf(anchor) - (old >= 0 && old < canvas.clientHeight ? old : y);
  draw();
}

function fit() {
  // The finest rows of which all can be seen.
  let pages = limit;
  while (fits(pages / 2) && heightOf(pages / 2) <= canvas.clientHeight) pages /= 2;
  rowPages = pages;
  layOut();
  view.scrollTop = 0;
  draw();
}

function select(page, { scroll = true } = {}) {
  selected = page;
  const list = $("entry");
  list.replaceChildren();
  for (const [name, text] of describe(page)) {
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    list.append(term, value);
  }
  if (scroll) reveal(page);
  draw();
}

function reveal(page) {
  const y = topOf(page);
  if (y < view.scrollTop || y + ROW > view.scrollTop + canvas.clientHeight) {
    view.scrollTop = y - canvas.clientHeight / 2;
  }
}

function step(direction) {
  if (!entries.count) return;
  const run = selected < 0 ? -1 : at(entries, selected);
  if (run >= 0) {
    const entry = entryAt(run, selected);
    const page = direction > 0 ? entry.page + entry.pages : entry.page - entry.pages;
    if (page >= entries.start[run] && page < entries.end[run]) { select(page); return; }
  }
  const here = firstBehind(entries, Math.max(selected, 0));
  const next = run >= 0 ? run + direction : direction > 0 ? here : here - 1;
  if (next < 0 || next >= entries.count) return;
  const each = dump.attrs[entries.attr[next]].pages;
  select(direction > 0 ? entries.start[next] : entries.end[next] - each);
}

function goTo(text) {
  const plain = text.trim().replace(/_/g, "");
  if (!/^(0x)?[0-9a-f]{1,16}$/i.test(plain)) return "write an address such as 0x4008_0000";
  const address = BigInt(/^0x/i.test(plain) ? plain : "0x" + plain);
  if (address >= 1n << BigInt(dump.ipaBits)) return `beyond ${dump.ipaBits} bits`;
  const page = Number(address >> 12n);
  select(page);
  view.scrollTop = topOf(page) - canvas.clientHeight / 2;
  return at(entries, page) < 0 ? "not mapped" : "";
}

// --- the rest of the page ---

function legend() {
  const sums = COLOURS[mode].map(() => 0);
  for (let i = 0; i < entries.count; i += 1) {
    const pages = entries.end[i] - entries.start[i];
    const marked = mode === "dirty" ? overlap(entries.start[i], entries.end[i]) : 0;
    sums[colourOf(i)] += pages - marked;
    if (marked) sums[DIRTY] += marked;
  }
  const items = COLOURS[mode].map(([name, colour], i) => [name, colour, sums[i]]).filter((item) => item[2]);
  items.push(["slot, nothing mapped", css.slot, 0], ["no slot", css.hole, 0]);
  $("legend").replaceChildren(...items.map(([name, colour, pages]) => {
    const item = document.createElement("li");
    const box = document.createElement("i");
    const amount = document.createElement("span");
    box.style.background = colour;
    amount.textContent = pages ? about(pages) : "";
    item.append(box, name, amount);
    return item;
  }));
}

function slots() {
  $("slots").replaceChildren(...dump.slots.map((slot) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const more = document.createElement("small");
    const written = slot.dirty ? slot.dirty.reduce((sum, one) => sum + one[1], 0) : 0;
    button.textContent = `${slot.id}: ${hex(slot.ipa)}, ${size(slot.pages)}`;
    more.textContent = [
      slot.readOnly && "read-only",
      slot.dirty && `${written ? about(written) : "nothing"} dirty`,
    ].filter(Boolean).join(", ");
    button.append(more);
    button.addEventListener("click", () => { goTo(hex(slot.ipa)); view.focus(); });
    item.append(button);
    return item;
  }));
}

function setMode(name) {
  mode = name;
  document.querySelector(`input[value="${name}"]`).checked = true;
  legend();
  draw();
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["panel", "ink", "soft", "line", "hole", "slot", "edge", "fold"]) {
    css[name] = style.getPropertyValue(`--${name}`).trim();
  }
  legend();
  draw();
}

function resize() {
  const scale = window.devicePixelRatio || 1;
  canvas.style.width = view.clientWidth + "px";
  canvas.style.height = view.clientHeight + "px";
  canvas.width = view.clientWidth * scale;
  canvas.height = view.clientHeight * scale;
  layOut();
  draw();
}

function tip(event) {
  const box = $("tip");
  const page = pointed(event);
  box.hidden = page < 0;
  if (page < 0) return;
  box.textContent = describe(page).map(([name, text]) => `${name.padEnd(8)}${text}`).join("\n");
  const x = Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8);
  const below = event.clientY + 18;
  const y = below + box.offsetHeight > window.innerHeight ? event.clientY - box.offsetHeight - 10 : below;
  box.style.left = x + "px";
  box.style.top = y + "px";
}

function pointed(event) {
  const box = canvas.getBoundingClientRect();
  return pageAt(event.clientX - box.left, event.clientY - box.top + view.scrollTop);
}

let drag = null;
view.addEventListener("pointerdown", (event) => {
  if (event.button === 0 && event.target === canvas) drag = { y: event.clientY, top: view.scrollTop, moved: false };
});
window.addEventListener("pointermove", (event) => {
  if (drag) {
    const moved = event.clientY - drag.y;
    if (Math.abs(moved) > 3) { drag.moved = true; view.classList.add("dragging"); }
    if (drag.moved) view.scrollTop = drag.top - moved;
  } else if (event.target === canvas) {
    tip(event);
  } else {
    $("tip").hidden = true;
  }
});
window.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved && event.target === canvas) {
    const page = pointed(event);
    if (page >= 0) select(page, { scroll: false });
  }
  drag = null;
  view.classList.remove("dragging");
});
view.addEventListener("pointerleave", () => { $("tip").hidden = true; });
view.addEventListener("scroll", () => { $("tip").hidden = true; draw(); });
view.addEventListener("dblclick", (event) => {
  const box = canvas.getBoundingClientRect();
  zoom(1 / 2, event.clientX - box.left, event.clientY - box.top);
});
view.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoom(event.deltaY < 0 ? 1 / 2 : 2, event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
$("in").addEventListener("click", () => zoom(1 / 2));
$("out").addEventListener("click", () => zoom(2));
$("fit").addEventListener("click", fit);
$("modes").addEventListener("change", (event) => setMode(event.target.value));
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  $("found").textContent = goTo($("address").value);
});
document.addEventListener("keydown", (event) => {
  if (event.target === $("address")) {
    if (event.key === "Escape") view.focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const modes = { 1: "size", 2: "perm", 3: "dirty" };
  const keys = {
    "+": () => zoom(1 / 2), "=": () => zoom(1 / 2), "-": () => zoom(2), 0: fit,
    "/": () => { $("address").focus(); $("address").select(); },
  };
  const inMap = { ArrowRight: () => step(1), ArrowLeft: () => step(-1) };
  const act = modes[event.key] ? () => setMode(modes[event.key])
    : keys[event.key] || (document.activeElement === view && inMap[event.key]);
  if (act) { event.preventDefault(); act(); }
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
new ResizeObserver(resize).observe(view);

$("title").textContent = dump.guest ? `Stage-2 tables of ${dump.guest}` : "Stage-2 tables";
document.title = $("title").textContent;
$("facts").textContent = [
  dump.guest && `${dump.end.replace(/_/g, " ")} after ${dump.instructions.toLocaleString("en")} instructions`,
  `${dump.ipaBits} bits of addresses`,
  `${dump.levels} levels`,
  `${dump.tables.pa.length} table${dump.tables.pa.length > 1 ? "s" : ""}`,
  `${dump.entries.n.reduce((sum, n) => sum + n, 0).toLocaleString("en")} entries`,
].filter(Boolean).join(" \u00b7 ");
if (dump.slots.length) slots();
else $("slots").textContent = "none";
theme();
resize();
fit();
if (entries.count) select(entries.start[0], { scroll: false });
