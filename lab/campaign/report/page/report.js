// Reads out the cell of the map that is pointed at, tapped, or reached with the arrow keys.
const map = document.getElementById("map");
if (map) {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cursor = document.getElementById("cursor");
  const cells = new Map(data.cells.map(([band, column, ...found]) => [band * data.columns + column, found]));
  const number = (value) => value.toLocaleString("en");
  let band = -1;
  let column = -1;

  function read() {
    const [first, last, count] = data.bands[band];
    const where = count > 1 ? `${first} to ${last} (${count} locations)` : first;
    const from = column * data.step;
    const found = cells.get(band * data.columns + column) ?? [];
    const parts = [];
    for (let i = 0; i < found.length; i += 2) parts.push(`${number(found[i + 1])} ${data.outcomes[found[i]]}`);
    const when = data.step > 1 ? `${number(from)} to ${number(from + data.step - 1)}` : number(from);
    document.getElementById("cell").textContent = `${where}, instructions ${when}: ${parts.join(", ") || "no run"}`;
    cursor.setAttribute("x", column);
    cursor.setAttribute("y", band);
    cursor.removeAttribute("hidden");
  }

  function move(toBand, toColumn) {
    band = Math.min(Math.max(toBand, 0), data.bands.length - 1);
    column = Math.min(Math.max(toColumn, 0), data.columns - 1);
    read();
  }

  map.addEventListener("pointermove", (event) => {
    const box = map.getBoundingClientRect();
    move(
      Math.floor(((event.clientY - box.top) / box.height) * data.bands.length),
      Math.floor(((event.clientX - box.left) / box.width) * data.columns),
    );
  });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(band + step[0], column + step[1]);
  });
}
