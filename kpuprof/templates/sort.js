// Tables sorted by the buttons in their headers.

function sortRows(table, button, valueOf) {
  const header = button.closest("th");
  const isText = button.dataset.text !== undefined;
  const was = header.getAttribute("aria-sort");
  // Figures start with the largest, words with A.
  const direction = was === "none" ? (isText ? 1 : -1) : was === "ascending" ? -1 : 1;
  table.querySelectorAll("thead th[aria-sort]").forEach((each) => each.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const compare = (a, b) => (isText ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const rows = [...body.rows].map((row) => [valueOf(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // nothing to compare: last
    return direction * compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

document.querySelectorAll("table[data-sortable]").forEach((table) => {
  table.querySelectorAll("thead button").forEach((button) => {
    const column = button.closest("th").cellIndex;
    button.addEventListener("click", () => sortRows(table, button, (row) => {
      const cell = row.cells[column];
      return button.dataset.text === undefined ? Number(cell.dataset.value) : cell.textContent;
    }));
  });
});
