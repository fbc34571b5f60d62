// The table of ops: sorted, searched and filtered.

function setUpOps(article, run) {
  const table = article.querySelector("table.ops");
  const rows = [...table.tBodies[0].rows];
  const indexOf = new Map(rows.map((row, index) => [row, index]));
  const ops = run.ops;
  const derived = {
    index: (i) => i,
    roofline: (i) => (ops.cycles[i] ? ops.roofline_cycles[i] / ops.cycles[i] : null),
  };
  table.querySelectorAll("thead button").forEach((button) => {
    const key = button.dataset.key;
    if (["name", "op_type", "precision", "bound_by"].includes(key)) button.dataset.text = "";
    const value = derived[key] || ((i) => ops[key][i]);
    button.addEventListener("click", () => sortRows(table, button, (row) => value(indexOf.get(row))));
  });

  const search = article.querySelector("input[type=search]");
  const filters = [...article.querySelectorAll("select[data-filter]")];
  const output = article.querySelector("output.count");
  const words = rows.map((_, i) =>
    [ops.name[i], ops.id[i], ops.op_type[i], ops.precision[i], ...ops.fused[i]].join(" ").toLowerCase());

  function filter() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, cycles = 0;
    rows.forEach((row, i) => {
      const fits = wanted.every((word) => words[i].includes(word))
        && filters.every((each) => !each.value || ops[each.dataset.filter][i] === each.value);
      row.hidden = !fits;
      if (fits) { shown += 1; cycles += ops.cycles[i]; }
    });
    const share = (100 * cycles / Math.max(1, run.summary.total_cycles)).toFixed(1);
    output.textContent = `${shown} of ${rows.length} ops · ${count(cycles)} cycles (${share}${THIN}%)`;
  }

  search.addEventListener("input", filter);
  filters.forEach((each) => each.addEventListener("change", filter));
  article.addEventListener("reveal", () => {
    search.value = "";
    filters.forEach((each) => { each.value = ""; });
    filter();
  });
  filter();
}

// A link to an op shows it, whatever hid it.
window.addEventListener("hashchange", () => {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!row || row.tagName !== "TR" || !row.hidden) return;
  row.closest("article").dispatchEvent(new Event("reveal"));
  row.scrollIntoView({ block: "center" });
});

articles.forEach((article, index) => setUpOps(article, data.runs[index]));
