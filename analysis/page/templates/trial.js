// The dialog of one trial: settings, stages, learning curves, confusion of the test images, commands.

const ACCURACY_STEPS = 10_000;
const CONFUSIONS_NAMED = 3;
const dialog = document.getElementById("trial");
let shownTrial;

function openTrial(row) {
  form.elements.trial.value = data.trials.trial_id[row];
  form.elements["trial-run"].value = cell(data.trials.run, row);
  apply();
}

function showTrial(id) {
  const run = form.elements["trial-run"].value;
  const row = data.trials.trial_id.findIndex((one, place) => one === id && (!run || cell(data.trials.run, place) === run));
  if (row < 0) {
    if (dialog.open) dialog.close();
    return;
  }
  dialog.querySelector(".body").replaceChildren(...describeTrial(row));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  shownTrial = row;
  if (window.Plotly) drawTrial(row);
}

function describeTrial(row) {
  const { trials } = data;
  const of = (name) => cell(trials[name], row);
  const error = of("error");
  return [
    element("p", { class: "quiet" }, `${of("run")}, ${of("dataset")}, trial ${of("trial_id")}, ${write("status", of("status"))}`),
    element("h2", { id: "trial-title" }, of("arm")),
    siblings(row),
    ...(error === null ? [] : [element("pre", { class: "warning" }, error)]),
    ...uncounted(of("uncounted")),
    facts(data.columns.filter(({ field }) => RESULTS.includes(field)).map(({ title, field, kind }) => [title, write(kind, of(field))])),
    element("h3", {}, "Learning curves"),
    ...curves(row),
    element("h3", {}, "Stages"),
    stagesTable(row),
    element("h3", {}, "Test images: true and predicted classes"),
    ...confusion(row),
    element("h3", {}, "Settings"),
    ...settings(row),
    ...sources(row),
    element("h3", {}, "Commands"),
    ...commands(row),
  ];
}

const uncounted = (what) => (what ? [element("p", { class: "warning" }, `Not counted in the multiply-accumulates (MACs): ${what}.`)] : []);

const RESULTS = ["parameters", "weight_bytes", "macs", "latency_ms", "val_accuracy", "test_accuracy", "train_accuracy", "epochs_trained", "seconds"];

const pairs = (rows) => element("dl", {}, ...rows.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));

const facts = (rows) =>
  element("dl", { class: "facts" }, ...rows.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));

// The other trials of the arm: its seeds and folds.
function siblings(row) {
  const { trials } = data;
  const isSame = (other) => ["run", "dataset", "arm"].every((name) => cell(trials[name], row) === cell(trials[name], other));
  const rows = [...trials.trial_id.keys()].filter(isSame);
  const name = (one) => {
    const fold = cell(trials.fold, one);
    const reached = write("percent", cell(trials.val_accuracy, one));
    return `seed ${cell(trials.seed, one)}${fold === null ? "" : `, fold ${fold}`} (validation ${reached})`;
  };
  const choice = element(
    "select",
    { onchange: (event) => openTrial(Number(event.target.value)) },
    ...rows.map((one) => element("option", { value: one, selected: one === row }, name(one))),
  );
  return element("p", {}, element("label", {}, `One of ${rows.length === 1 ? "1 trial" : `${rows.length} trials`} of this arm: `, choice));
}

function epochsOf(row) {
  const { epochs } = data;
  const span = (series) => series.slice(epochs.start[row], epochs.start[row + 1]);
  const accuracies = (series) => span(series).map((steps) => (steps === null ? null : (100 * steps) / ACCURACY_STEPS));
  return {
    stage: span(epochs.stage).map((code) => epochs.stages[code]),
    kept: span(epochs.kept),
    ...Object.fromEntries(["val", "train", "a", "b"].map((name) => [name, accuracies(epochs[name])])),
  };
}

function curves(row) {
  const found = epochsOf(row);
  if (!found.stage.length) return [element("p", {}, "No epochs are recorded.")];
  const last = found.a.findLastIndex((accuracy, place) => accuracy !== null && found.b[place] !== null);
  const agreement =
    last < 0
      ? []
      : [
          `At the end of stage ${found.stage[last]} submodel A classifies ${TWO_DIGITS.format(found.a[last])}% and submodel B ` +
            `${TWO_DIGITS.format(found.b[last])}% of the validation images correctly: ${TWO_DIGITS.format(Math.abs(found.a[last] - found.b[last]))} points apart.`,
        ];
  const label = "Accuracy of this trial over its epochs, stages marked";
  return [
    element("div", { class: "plot", id: "trial-curves", role: "group", "aria-label": label }),
    ...agreement.map((text) => element("p", { class: "agreement" }, text)),
  ];
}

// As `trial_figure` in `course/figure.py` draws it.
function drawTrial(row) {
  const box = document.getElementById("trial-curves");
  if (!box) return;
  const { data: empty, layout } = data.figures["trial-curves"];
  const found = epochsOf(row);
  const x = found.stage.map((_, place) => place + 1);
  const series = [found.val, found.train, found.a, found.b];
  const kept = x.filter((_, place) => found.kept[place]);
  const lines = empty.map((trace, place) =>
    place < series.length ? { ...trace, x, y: series[place] } : { ...trace, x: kept, y: kept.map((epoch) => found.val[epoch - 1]) },
  );
  const starts = x.filter((epoch) => epoch === 1 || found.stage[epoch - 1] !== found.stage[epoch - 2]);
  const line = { color: layout.font.color, width: 1, dash: "dot" };
  const shapes = starts.slice(1).map((epoch) => ({ type: "line", x0: epoch - 0.5, x1: epoch - 0.5, yref: "paper", y0: 0, y1: 1, line }));
  const note = { xanchor: "left", xshift: 4, showarrow: false, y: 1, yref: "paper", yanchor: "bottom", font: { size: 12 } };
  const escaped = (text) => element("p", {}, text).innerHTML; // plotly parses some markup in labels
  const annotations = starts.map((epoch) => ({ ...note, text: escaped(found.stage[epoch - 1]), x: epoch - 0.5 }));
  Plotly.newPlot(box, lines.filter((trace) => trace.y.some((y) => y !== null)), { ...layout, shapes, annotations }, plotlyConfig);
  hush(box);
}

function stagesTable(row) {
  const { stages } = data;
  const rows = [];
  for (let place = stages.start[row]; place < stages.start[row + 1]; place++) {
    const of = (name) => cell(stages[name], place);
    rows.push([of("stage"), of("origin"), write("count", of("epochs")), write("count", of("epochs_trained")), write("seconds", of("seconds")), write("seconds", of("waited_seconds")), of("host") ?? MISSING]);
  }
  if (!rows.length) return element("p", {}, "No stages are recorded.");
  const headings = ["Stage", "Origin", "Epochs", "Trained here", "Took", "Waited", "Host"];
  return tableOf("Stages of the trial", headings, rows, [2, 3, 4, 5]);
}

function confusion(row) {
  const counts = data.confusions[row];
  if (!counts) return [element("p", {}, "Not recorded, or too many classes to be readable.")];
  const size = Math.sqrt(counts.length);
  const names = data.classes[cell(data.trials.dataset, row)] ?? [...Array(size).keys()].map(String);
  const at = (truth, guess) => counts[truth * size + guess];
  const total = (truth) => counts.slice(truth * size, (truth + 1) * size).reduce((sum, count) => sum + count, 0);
  const wrong = [...counts.keys()]
    .map((place) => ({ truth: Math.floor(place / size), guess: place % size, count: counts[place] }))
    .filter(({ truth, guess, count }) => truth !== guess && count)
    .sort((a, b) => b.count - a.count)
    .slice(0, CONFUSIONS_NAMED)
    .map(({ truth, guess, count }) => `${names[truth]} for ${names[guess]} (${write("count", count)})`);
  const body = names.map((name, truth) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      ...names.map((_, guess) => {
        const shade = Math.round((100 * at(truth, guess)) / Math.max(1, total(truth)));
        const cellOf = element("td", { class: truth === guess ? "number right" : "number" }, write("count", at(truth, guess)));
        cellOf.style.setProperty("--share", `${Math.min(60, shade)}%`);
        return cellOf;
      }),
    ),
  );
  const head = element("tr", {}, element("th", { scope: "col" }, "true \\ predicted"), ...names.map((name) => element("th", { scope: "col", class: "number" }, name)));
  return [
    element("p", {}, wrong.length ? `Most frequent confusions: ${wrong.join(", ")}.` : "Every test image is classified correctly."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion of the test images" }, element("table", { class: "confusion" }, element("thead", {}, head), element("tbody", {}, ...body))),
  ];
}

function settings(row) {
  const text = (name) => [name.slice("config.".length), write("value", cell(data.trials[name], row))];
  const others = data.settings.filter((name) => !data.differing.includes(name));
  return [
    ...(data.differing.length ? [pairs(data.differing.map(text))] : []),
    element("details", {}, element("summary", {}, data.differing.length ? "Settings that all trials share" : "All settings (the same in all trials)"), pairs(others.map(text))),
  ];
}

// The user's own code that the trial's settings name, as text.
function sources(row) {
  const named = data.settings.map((name) => cell(data.trials[name], row)).filter((value) => typeof value === "string");
  const digests = new Set(named.flatMap((value) => [...value.matchAll(/\.py:\w+@([0-9a-f]{16})/g)].map((match) => match[1])));
  const found = [...digests].filter((digest) => digest in data.sources);
  if (!found.length) return [];
  const file = ([name, text]) => element("details", {}, element("summary", {}, name), element("pre", { class: "source" }, text));
  return [element("h3", {}, "Code of your own"), ...found.flatMap((digest) => Object.entries(data.sources[digest]).map(file))];
}

function commands(row) {
  const folder = data.folders[cell(data.trials.run, row)];
  const id = data.trials.trial_id[row];
  const lines = [
    ["Show its record", `lightsweep show ${folder} ${id}`],
    ["Train it again and compare", `lightsweep verify ${folder} ${id}`],
    ["Export its net", `lightsweep export ${folder} ${id} -o model.onnx`],
  ];
  const isDone = cell(data.trials.status, row) === "completed";
  return lines.slice(0, isDone ? lines.length : 2).flatMap(([words, line]) => [element("p", { class: "command" }, words), element("pre", {}, line)]);
}

dialog.addEventListener("close", () => {
  form.elements.trial.value = form.elements["trial-run"].value = "";
  apply();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest(".close")) dialog.close(); // outside it, or on the button
});
