// The table of trials, and saving it.

function sortedRows(state) {
  const rows = [...matches.keys()].filter((row) => matches[row]);
  const field = state.sort.replace(/^-/, "");
  const column = data.trials[field];
  if (!column) return rows;
  const sign = state.sort.startsWith("-") ? -1 : 1;
  const keys = Array.from(matches, (_, row) => cell(column, row));
  const collator = new Intl.Collator("en", { numeric: true });
  return rows.sort((a, b) => {
    const [one, other] = [keys[a], keys[b]];
    if (one === null || other === null) return (one === null) - (other === null); // missing values stay last
    return sign * (typeof one === "number" ? one - other : collator.compare(one, other));
  });
}

function showTable(state) {
  const table = document.getElementById("trials");
  if (!table) return;
  const rows = sortedRows(state);
  const pages = Math.max(1, Math.ceil(rows.length / ROWS_A_PAGE));
  const page = Math.min(Math.max(1, Number(state.page) || 1), pages);
  const first = (page - 1) * ROWS_A_PAGE;
  data.rows = rows;
  table.tBodies[0].replaceChildren(...rows.slice(first, first + ROWS_A_PAGE).map(rowOf));
  for (const heading of table.tHead.rows[0].cells) {
    const way = { [heading.dataset.field]: "ascending", [`-${heading.dataset.field}`]: "descending" }[state.sort];
    if (way) heading.setAttribute("aria-sort", way);
    else heading.removeAttribute("aria-sort");
  }
  const last = Math.min(first + ROWS_A_PAGE, rows.length);
  document.getElementById("place").textContent = rows.length
    ? `Rows ${write("count", first + 1)} to ${write("count", last)} of ${write("count", rows.length)}`
    : "No trial matches the filters.";
  document.getElementById("previous").disabled = page === 1;
  document.getElementById("next").disabled = page === pages;
  document.getElementById("shown").textContent = `${write("count", rows.length)} of ${write("count", matches.length)} trials`;
  document.getElementById("save").textContent = `Save ${rows.length === 1 ? "1 trial" : `${write("count", rows.length)} trials`} as CSV`;
}

function rowOf(row) {
  const { trials } = data;
  const cells = data.columns.map(({ field, kind, number }) => {
    const text = write(kind, cell(trials[field], row));
    if (field === "arm")
      return element("td", { class: "name" }, element("button", { type: "button", class: "link", "data-trial": row }, text));
    return element("td", { class: number ? "number" : field }, text);
  });
  return element("tr", { class: cell(trials.status, row), "data-trial": row }, ...cells);
}

// A string that a spreadsheet would take for a formula gets a leading apostrophe in the file.
function inCsv(value) {
  if (value === null || value === undefined) return "";
  let text = WRITE.text(value);
  if (typeof value === "string" && (/^[=@\t\r]/.test(text) || (/^[+-]/.test(text) && /[(|!]/.test(text)))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function saveTrials() {
  const columns = Object.entries(data.trials);
  const lines = [columns.map(([name]) => inCsv(name)), ...data.rows.map((row) => columns.map(([, column]) => inCsv(cell(column, row))))];
  save("trials.csv", "\ufeff" + lines.map((line) => `${line.join(",")}\r\n`).join(""), "text/csv"); // the byte-order mark makes Excel read it as UTF-8
}

