// Tables: sorted by a column when its head is pressed; a model's name leads to its mark on the map.
function sortable(table) {
  const body = table.tBodies[0];
  table.tHead.addEventListener("click", event => {
    const head = event.target.closest("th");
    if (!head || !event.target.closest("button")) return;
    const down = head.getAttribute("aria-sort") === "ascending", at = head.cellIndex;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const valueOf = row => { const text = row.cells[at].textContent.trim(); return text === "" || Number.isNaN(Number(text)) ? text : Number(text); };
    const rows = [...body.rows].map(row => [valueOf(row), row]);
    rows.sort(([one], [other]) => (typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other))) * (down ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  });
}

function leadToMap(table) {
  table.addEventListener("click", event => {
    const row = event.target.closest("tr[data-model]");
    if (!row || !event.target.closest("button")) return;
    const index = Number(row.dataset.model);
    choose(index);
    canvas.scrollIntoView({ block: "center" });
    canvas.focus();
    describe(index);
  });
}
