"use strict";
// Finding by word and by status. The page says everything without it.
(() => {
  const all = (what, inside = document) => [...inside.querySelectorAll(what)];
  const controls = document.getElementById("controls");
  const word = document.getElementById("word");
  const told = document.getElementById("told");
  const rows = all("tr[data-status]").map((row) => [row, row.textContent.toLowerCase()]);
  const show = () => {
    const words = word.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(all("input[name=status]:checked").map((box) => box.value));
    let shown = 0;
    for (const [row, text] of rows) {
      const task = row.closest("section").querySelector("h2").textContent.toLowerCase();
      row.hidden = !(wanted.has(row.dataset.status) && words.every((one) => text.includes(one) || task.includes(one)));
      shown += row.hidden ? 0 : 1;
    }
    for (const section of all("section.task")) section.hidden = !section.querySelector("tr[data-status]:not([hidden])");
    told.textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  controls.hidden = false;
  controls.addEventListener("input", show);
  addEventListener("beforeprint", () => all("details").forEach((item) => { item.open = true; }));
})();
