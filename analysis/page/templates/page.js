// Start of the page, and updates after each change.

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
    if (asked || event.target.form !== form) return; // some controls of the form are next to their figures
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
    await new Promise((resolve) => setTimeout(resolve, 60)); // so that the page stays responsive
  }
  if (dialog.open) drawTrial(shownTrial);
  document.documentElement.dataset.ready = "all figures are drawn";
}

start().catch((error) => {
  document.getElementById("trouble").hidden = false; // the notice may not be the reason, but is better than none
  throw error;
});

