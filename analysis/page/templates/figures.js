// The figures: drawn when first needed, updated by the filters.

const drawn = new Set();

function draw(box) {
  if (drawn.has(box)) return;
  drawn.add(box);
  const figure = data.figures[box.id];
  Plotly.newPlot(box, figure.data, figure.layout, plotlyConfig);
  hush(box);
}

// Hides the drawing from screen readers: the box has a label, and its numbers are in a table.
function hush(box) {
  for (const drawing of box.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
}

const partOf = (box) => data.parts[Number(box.dataset.part)];
const costOf = (part, state) => (part.marks[state.cost] ? state.cost : "parameters");
const fill = (color, probability) => {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
  return `rgba(${red},${green},${blue},${Math.round(100 * probability) / 100})`;
};

// The figure of accuracy against a cost, for what matches the filters; as `front/figure.py` draws it.
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
      return false; // the form controls the layers, so that the address holds them
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

// What a figure shows, as a table: made when it is opened.
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
  const rest = rows.length > NUMBERS_SHOWN ? [element("p", { class: "quiet" }, `The first ${NUMBERS_SHOWN} of ${write("count", rows.length)}; the CSV file of all trials has the others.`)] : [];
  const label = `Numbers of the figure: ${box.getAttribute("aria-label")}`;
  details.querySelector("div").replaceChildren(tableOf(label, headings, rows.slice(0, NUMBERS_SHOWN)), ...rest);
}

