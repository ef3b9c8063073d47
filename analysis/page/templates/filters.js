// The filters, and the address (URL) that holds their state.

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

// The text that a search matches a trial against, in lower case.
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

