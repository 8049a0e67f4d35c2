"use strict";
// Sorting, highlighting, filtering and saving. The page says everything without it.
(() => {
  const all = (what, inside = document) => [...inside.querySelectorAll(what)];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute("aria-sort") === "descending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
          return up ? order : -order;
        });
        table.tBodies[0].append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  }
  for (const bar of all("[data-row]")) {
    const row = document.getElementById(bar.getAttribute("data-row"));
    if (!row) continue;
    const light = (on) => { row.classList.toggle("on", on); bar.classList.toggle("on", on); };
    for (const mark of [bar, row]) {
      mark.addEventListener("mouseenter", () => light(true));
      mark.addEventListener("mouseleave", () => light(false));
    }
    bar.addEventListener("click", () => { const fold = row.closest("details"); if (fold) fold.open = true; });
  }
  const only = document.getElementById("only");
  if (only) {
    only.closest(".controls").hidden = false;
    only.addEventListener("change", () => document.body.classList.toggle("quietly", only.checked));
  }
  addEventListener("beforeprint", () => all("#operator-table").forEach((table) => { table.closest("details").open = true; }));
  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([document.getElementById("record").textContent], { type: "application/json" }));
    link.download = "record.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
})();
