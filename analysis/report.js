"use strict";

const plotlyConfig = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // plotly.js 4 offers an upload unless told not to
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

for (const box of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(box.dataset.figure).textContent);
  Plotly.newPlot(box, figure.data, figure.layout, plotlyConfig);
}

for (const views of document.querySelectorAll("fieldset.views")) {
  const box = document.getElementById(views.dataset.for);
  const off = new Set(); // what the reader switched off in the legend stays off in both views
  views.addEventListener("change", (event) => {
    const view = event.target.value;
    for (const trace of box.data) {
      if (trace.visible === "legendonly") off.add(trace.name);
      else if (trace.visible) off.delete(trace.name);
    }
    const visible = box.data.map((trace) => trace.meta.view === view && (off.has(trace.name) ? "legendonly" : true));
    Plotly.update(box, { visible }, box.layout.meta.views[view]);
  });
}

for (const select of document.querySelectorAll("select[data-for]")) {
  const box = document.getElementById(select.dataset.for);
  const front = new Set(box.data.filter((trace) => trace.visible).map((trace) => trace.meta.arm));
  select.addEventListener("change", () => {
    const isShown = (arm) =>
      select.value === "all" || (select.value === "front" ? front.has(arm) : String(arm) === select.value);
    Plotly.restyle(box, { visible: box.data.map((trace) => isShown(trace.meta.arm)) });
  });
}

// Sort by the clicked column, the other way round when clicked again; missing values stay last.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const body = heading.closest("table").tBodies[0];
    const isNumber = heading.classList.contains("number");
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const keyOf = (row) => row.cells[heading.cellIndex].dataset.sort;
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [keyOf(one), keyOf(other)];
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    body.append(...rows);
  });
}

// Paper is narrower than most windows.
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("[data-figure]")) Plotly.relayout(box, { width: 660, height: Math.max(400, box.clientHeight) });
});
addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("[data-figure]"))
    Plotly.relayout(box, { width: null, height: null, autosize: true });
});
