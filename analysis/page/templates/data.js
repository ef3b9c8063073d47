"use strict";

const MISSING = "–";
const ROWS_A_PAGE = 100;
const NUMBERS_SHOWN = 500;
const MOST_NUMBERED = 30; // arms on a front
const POINTS_AT_FIRST = 1500; // a larger figure draws the rest later, so that the page is not blank meanwhile
const BESIDE_FILTERS = ["sort", "page", "trial", "trial-run"]; // they change neither what matches nor a figure
const plotlyConfig = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // plotly.js 4 offers an upload unless told not to
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

// Unpacks a string embedded in the page: gzip in base64.
async function unpack(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// An element with attributes and children; strings are never parsed as markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// A table in a box that scrolls; numbers are the indices of the columns that hold numbers.
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

let data; // the page's data; see payload.py
let matches; // Uint8Array: for each trial, whether it passes the filters
const form = document.getElementById("filters");

