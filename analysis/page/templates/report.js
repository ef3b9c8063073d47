"use strict";

const MISSING = "–";
const ROWS_A_PAGE = 100;
const NUMBERS_SHOWN = 500;
const MOST_NUMBERED = 30; // arms on a front
const POINTS_AT_FIRST = 1500; // of a larger figure the rest follows, so that the page is not blank meanwhile
const BESIDE_FILTERS = ["sort", "page", "trial", "trial-run"]; // they change neither what matches nor a figure
const plotlyConfig = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // plotly.js 4 offers an upload unless told not to
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

// A text that was packed into the page: gzip in base64.
async function unpack(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// An element with attributes and children; texts are never read as markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// A table in a box that scrolls; numbers are the places of the columns that hold numbers.
function tableOf(label, headings, rows, numbers = []) {
  const kind = (place) => (numbers.includes(place) ? { class: "number" } : {});
  return element(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...headings.map((text, place) => element("th", { scope: "col", ...kind(place) }, text)))),
      element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((text, place) => element("td", kind(place), text))))),
    ),
  );
}

const rounded = (digits) =>
  new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" });
const [ONE_DIGIT, TWO_DIGITS] = [rounded(1), rounded(2)];
// As `notation.py` writes them.
const WRITE = {
  text: (value) => (typeof value === "boolean" ? (value ? "True" : "False") : String(value)),
  value: (value) => (typeof value === "number" ? String(Number(value.toPrecision(10))) : WRITE.text(value)),
  status: (value) => value.replace("_", " "),
  count: (value) => value.toLocaleString("en"),
  percent: (value) => `${TWO_DIGITS.format(100 * value)}%`,
  seconds: (value) => `${ONE_DIGIT.format(value)} s`,
  milliseconds: (value) => `${TWO_DIGITS.format(value)} ms`,
};
const write = (kind, value) => (value === null || value === undefined ? MISSING : WRITE[kind](value));

// A column is a list of values, or {of: values, at: codes}.
const cell = (column, row) => (Array.isArray(column) ? column[row] : column.of[column.at[row]]);

let data; // what the page was made of; see payload.py
let matches; // for each trial, whether it passes the filters: Uint8Array
const form = document.getElementById("filters");

// ---------------------------------------------------------------- filters and the address

function readForm() {
  const state = {};
  for (const control of form.elements) {
    if (!control.name || (control.type === "radio" && !control.checked)) continue;
    state[control.name] = control.type === "checkbox" ? String(Number(control.checked)) : control.value;
  }
  return state;
}

function writeForm(state) {
  for (const control of form.elements) {
    if (!(control.name in state)) continue;
    const value = state[control.name];
    if (control.type === "radio") control.checked = control.value === value;
    else if (control.type === "checkbox") control.checked = value === "1";
    else if (control.tagName !== "SELECT" || [...control.options].some((option) => option.value === value))
      control.value = value;
  }
}

function fromAddress(defaults) {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { ...defaults, ...Object.fromEntries(Object.entries(asked).filter(([name]) => name in defaults)) };
}

function toAddress(state, defaults) {
  const changed = Object.entries(state).filter(([name, value]) => value !== defaults[name]);
  const hash = new URLSearchParams(changed).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

// What a search finds a trial by, in lower case.
function haystacks() {
  const { trials, settings } = data;
  const fields = ["run", "dataset", "arm", "status", "error", "trial_id", "host"].map((name) => trials[name]);
  const configs = settings.map((name) => [name.slice("config.".length), trials[name]]);
  return trials.trial_id.map((_, row) => {
    const words = fields.map((column) => cell(column, row) ?? "");
    for (const [name, column] of configs) words.push(`${name}=${write("value", cell(column, row))}`);
    return words.join("\n").toLowerCase();
  });
}

function findMatches(state) {
  const { trials } = data;
  const arm = state.arm.trim().toLowerCase();
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) data.haystacks ??= haystacks();
  const budget = Number(state.budget) || Infinity;
  return Uint8Array.from(trials.trial_id, (_, row) =>
    Number(
      (!state.dataset || cell(trials.dataset, row) === state.dataset) &&
        (!state.status || cell(trials.status, row) === state.status) &&
        (cell(trials.parameters, row) ?? 0) <= budget &&
        (!arm || cell(trials.arm, row).toLowerCase().includes(arm)) &&
        words.every((word) => data.haystacks[row].includes(word)),
    ),
  );
}

// ---------------------------------------------------------------- figures

const drawn = new Set();

function draw(box) {
  if (drawn.has(box)) return;
  drawn.add(box);
  const figure = data.figures[box.id];
  Plotly.newPlot(box, figure.data, figure.layout, plotlyConfig);
  hush(box);
}

// What is drawn is for the eye: the box has a name, and its numbers are in a table.
function hush(box) {
  for (const drawing of box.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
}

const partOf = (box) => data.parts[Number(box.dataset.part)];
const costOf = (part, state) => (part.marks[state.cost] ? state.cost : "parameters");
const fill = (color, probability) => {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
  return `rgba(${red},${green},${blue},${Math.round(100 * probability) / 100})`;
};

// The figure of accuracy against a cost, for what the filters leave; as `pareto_figures.py` draws it.
function arrange(part, figure, state, most = Infinity) {
  const cost = costOf(part, state);
  const { arms, marks } = part;
  const [mark, view] = [marks[cost], arms[state.view]];
  const keeps = new Uint8Array(arms.label.length);
  part.armOf.forEach((arm, place) => {
    if (arm !== null && matches[part.trials[place]]) keeps[arm] = 1;
  });
  const isDrawn = (arm) => cell(arms[cost], arm) !== null && view.mean[arm] !== null;
  const traces = figure.data.map((trace) => {
    const { layer, of, views, costs } = trace.meta;
    const visible =
      state[`layer-${layer}`] !== "0" && (!views || views.includes(state.view)) && (!costs || costs.includes(cost));
    if (layer === "front") {
      const front = mark.rank.map((rank, arm) => [rank, arm]).filter(([rank, arm]) => rank !== null && isDrawn(arm));
      const members = front.sort(([a], [b]) => a - b).map(([, arm]) => arm);
      const [x, y] = [members.map((arm) => cell(arms[cost], arm)), members.map((arm) => 100 * view.mean[arm])];
      return { ...trace, visible, x, y, text: members.length <= MOST_NUMBERED ? members.map((arm) => String(mark.rank[arm])) : null };
    }
    if (of === "trials") {
      const column = data.trials[cost];
      const places = [...trace.customdata.keys()].filter((place) => matches[trace.customdata[place]]);
      return {
        ...trace,
        visible,
        customdata: places.map((place) => trace.customdata[place]),
        x: places.map((place) => cell(column, trace.customdata[place])),
        y: places.map((place) => trace.y[place]),
        hovertext: places.map((place) => trace.hovertext[place]),
      };
    }
    if (of !== "arms") return { ...trace, visible };
    const isMember = (arm, place) => keeps[arm] && isDrawn(arm) && (place < most || mark.rank[arm] !== null);
    const places = [...trace.customdata.keys()].filter((place) => isMember(trace.customdata[place], place));
    const members = places.map((place) => trace.customdata[place]);
    const hasBar = (arm) => view.reach[arm] !== null && (part.allBars || mark.rank[arm] !== null);
    return {
      ...trace,
      visible,
      customdata: members,
      x: members.map((arm) => cell(arms[cost], arm)),
      y: members.map((arm) => 100 * view.mean[arm]),
      error_y: { ...trace.error_y, array: members.map((arm) => (hasBar(arm) ? 100 * view.reach[arm] : null)) },
      hovertext: places.map((place) => trace.hovertext[place]),
      marker: { ...trace.marker, color: members.map((arm) => fill(trace.marker.line.color, mark.probability[arm])) },
    };
  });
  const { x, y } = figure.layout.meta[state.view];
  const layout = {
    ...figure.layout,
    xaxis: { ...figure.layout.xaxis, ...x[cost] },
    yaxis: { ...figure.layout.yaxis, ...y },
    shapes: cost === "parameters" && state["layer-budgets"] !== "0" ? figure.layout.shapes : [],
  };
  return [traces, layout];
}

function drawFront(box, state) {
  const part = partOf(box);
  const isFirst = !drawn.has(box);
  const [traces, layout] = arrange(part, data.figures[box.id], state, isFirst ? POINTS_AT_FIRST : Infinity);
  if (!isFirst) return Plotly.react(box, traces, layout, plotlyConfig);
  drawn.add(box);
  Plotly.newPlot(box, traces, layout, plotlyConfig);
  if (part.arms.label.length > POINTS_AT_FIRST) setTimeout(() => drawFront(box, readForm()), 50);
  hush(box);
  box.on("plotly_click", ({ points: [point] }) => {
    const { of } = point.data.meta;
    if (of === "trials") openTrial(point.customdata);
    if (of === "arms") openTrial(part.trials[part.armOf.indexOf(point.customdata)]);
  });
  for (const event of ["plotly_legendclick", "plotly_legenddoubleclick"])
    box.on(event, ({ node, curveNumber }) => {
      const layer = form.elements[`layer-${box.data[curveNumber].meta.layer}`];
      if (!node || !layer) return false;
      layer.checked = !layer.checked;
      apply();
      return false; // the layers are the form's, so that the address holds them
    });
}

function showCurves(box, state) {
  const part = partOf(box);
  const chosen = state[box.dataset.choice];
  const keeps = new Set(part.armOf.filter((arm, place) => arm !== null && matches[part.trials[place]]));
  const isShown = ({ arm, row }) =>
    keeps.has(row) && (chosen === "all" || (chosen === "front" ? arm < part.onFront : String(arm) === chosen));
  const visible = data.figures[box.id].data.map((trace) => isShown(trace.meta));
  if (!drawn.has(box)) {
    data.figures[box.id].data.forEach((trace, place) => (trace.visible = visible[place]));
    draw(box);
  } else if (visible.some((is, place) => is !== box.data[place].visible)) Plotly.restyle(box, { visible });
}

// What a figure shows, as a table: made when it is asked for.
function tellNumbers(details) {
  const box = document.getElementById(details.dataset.of);
  draw(box);
  const plain = (text) => String(text ?? "").replace(/<br>/g, "; ").replace(/<[^>]*>/g, "");
  const decoded = (text) => new DOMParser().parseFromString(plain(text), "text/html").documentElement.textContent;
  const rows = [];
  for (const trace of box.data.filter((one) => one.visible !== false && one.hoverinfo !== "skip"))
    for (const [place, x] of [...(trace.x ?? [])].entries()) {
      if (x === null || trace.y[place] === null) continue;
      const words = Array.isArray(trace.hovertext) ? trace.hovertext[place] : trace.hovertext;
      rows.push([trace.name, x, trace.y[place], words].map((value) => (typeof value === "number" ? WRITE.value(value) : decoded(value))));
    }
  const title = (axis, name) => decoded(box.layout[axis]?.title?.text || name);
  const headings = ["Series", title("xaxis", "x"), title("yaxis", "y"), "In words"];
  const rest = rows.length > NUMBERS_SHOWN ? [element("p", { class: "quiet" }, `The first ${NUMBERS_SHOWN} of ${write("count", rows.length)}; the file of all trials has the others.`)] : [];
  const label = `The numbers of: ${box.getAttribute("aria-label")}`;
  details.querySelector("div").replaceChildren(tableOf(label, headings, rows.slice(0, NUMBERS_SHOWN)), ...rest);
}

// ---------------------------------------------------------------- the table of trials

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
    if (one === null || other === null) return (one === null) - (other === null); // the missing stay last
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

// A text that a spreadsheet would take for a formula begins with an apostrophe in the file.
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
  save("trials.csv", "\ufeff" + lines.map((line) => `${line.join(",")}\r\n`).join(""), "text/csv"); // Excel takes it for UTF-8 by its mark
}

// ---------------------------------------------------------------- all together

let defaults;
let before = {};

function apply() {
  const state = readForm();
  const isNew = (name) => state[name] !== before[name];
  const isFiltered = Object.keys(state).some((name) => isNew(name) && !BESIDE_FILTERS.includes(name));
  if (isFiltered && before.sort !== undefined && !isNew("page")) form.elements.page.value = state.page = "1";
  if (["dataset", "arm", "status", "budget", "q"].some(isNew)) matches = findMatches(state);
  toAddress(state, defaults);
  for (const section of document.querySelectorAll("[data-dataset]"))
    section.hidden = state.dataset !== "" && section.dataset.dataset !== state.dataset;
  for (const block of document.querySelectorAll("[data-cost]"))
    block.hidden = block.dataset.cost !== costOf(partOf(block), state);
  if (isFiltered) {
    for (const box of document.querySelectorAll(".plot.front")) if (drawn.has(box)) drawFront(box, state);
    for (const box of document.querySelectorAll(".plot.curves")) if (drawn.has(box)) showCurves(box, state);
    for (const details of document.querySelectorAll("details.numbers[open]")) tellNumbers(details);
  }
  if (isFiltered || isNew("sort") || isNew("page")) showTable(state);
  if (isNew("trial")) showTrial(state.trial);
  before = state;
}

function drawBox(box, state) {
  if (box.classList.contains("front")) drawFront(box, state);
  else if (box.classList.contains("curves")) showCurves(box, state);
  else draw(box);
}

function listen() {
  let asked = false;
  document.addEventListener("input", (event) => {
    if (asked || event.target.form !== form) return; // some controls of the form stand beside their figures
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      apply();
    });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("reset").addEventListener("click", () => {
    writeForm(defaults);
    apply();
  });
  addEventListener("hashchange", () => {
    writeForm(fromAddress(defaults));
    apply();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const target = link && document.getElementById(link.hash.slice(1));
    if (target) {
      event.preventDefault(); // the address is the filters'
      target.scrollIntoView();
      target.setAttribute("tabindex", -1);
      target.focus({ preventScroll: true });
    }
    const sort = event.target.closest("#trials th button");
    if (sort) {
      const { field } = sort.parentElement.dataset;
      form.elements.sort.value = form.elements.sort.value === field ? `-${field}` : field;
      apply();
    }
    const row = event.target.closest("#trials [data-trial]");
    if (row && !getSelection().toString()) openTrial(Number(row.dataset.trial));
    const sweep = event.target.closest("[data-sweep]");
    if (sweep) save("sweep.yaml", document.getElementById(sweep.dataset.sweep).textContent, "text/yaml");
  });
  const turn = (pages) => {
    form.elements.page.value = Number(form.elements.page.value) + pages;
    apply();
  };
  document.getElementById("previous")?.addEventListener("click", () => turn(-1));
  document.getElementById("next")?.addEventListener("click", () => turn(1));
  document.getElementById("save")?.addEventListener("click", saveTrials);
  for (const details of document.querySelectorAll("details.numbers"))
    details.addEventListener("toggle", () => details.open && tellNumbers(details));
}

// Paper is narrower than most windows.
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("main .plot")) {
    if (!drawn.has(box)) drawBox(box, readForm());
    Plotly.relayout(box, { width: 660, height: Math.max(400, box.clientHeight) });
  }
});
addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("main .plot")) Plotly.relayout(box, { width: null, height: null, autosize: true });
});

async function start() {
  document.getElementById("trouble").hidden = true;
  const plotly = unpack("plotly");
  data = JSON.parse(await unpack("data"));
  defaults = readForm();
  writeForm(fromAddress(defaults));
  listen();
  apply();
  const boxes = [...document.querySelectorAll("main .plot")];
  if (boxes.length) document.head.append(element("script", {}, await plotly));
  const first = boxes.find((box) => !box.closest("[hidden]"));
  for (const box of first ? [first, ...boxes] : []) {
    if (!drawn.has(box)) drawBox(box, readForm());
    await new Promise((resolve) => setTimeout(resolve, 60)); // so that the page answers meanwhile
  }
  if (dialog.open) drawTrial(shownTrial);
  document.documentElement.dataset.ready = "all figures are drawn";
}

start().catch((error) => {
  document.getElementById("trouble").hidden = false; // better told too much than nothing
  throw error;
});
