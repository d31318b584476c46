"use strict";
// The page of a sweep that runs: asks for what changed, and shows it.
const PAUSE_MS = 2000, STEP = 100;
const UNFINISHED = ["running", "interrupted", "queued"];
const trials = new Map();
let version = 0, shown = STEP;
const main = document.querySelector("main"), find = id => document.getElementById(id);
const sign = main.dataset.mode === "max" ? 1 : -1;

function make(name, text, more = {}) {
  return Object.assign(document.createElement(name), {textContent: text}, more);
}
function percent(value) {
  return value === null ? "–" : (100 * value).toFixed(1);
}
function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showHead(state) {
  const all = Object.values(state.counts).reduce((sum, count) => sum + count, 0);
  const facts = [[all, "trials"], [state.is_running ? "running" : "none", "driver"]];
  if (state.seconds_left !== null) facts.push([duration(state.seconds_left), "left"]);
  if (state.best) facts.push([percent(state.best.objective), `best dev, configuration ${state.best.configuration}`]);
  find("facts").replaceChildren(...facts.map(([value, label]) => {
    const item = make("li", "");
    item.append(make("b", value), make("span", label));
    return item;
  }));
  const counts = Object.entries(state.counts).filter(([, count]) => count);
  find("bar").replaceChildren(...counts.map(([name, count]) => {
    const part = make("i", "", {className: name, title: `${count} ${name}`});
    part.style.flex = count;
    return part;
  }));
  find("counts").replaceChildren(...counts.flatMap(([name, count]) =>
    [make("span", `${count} ${name}`, {className: `state ${name}`}), " · "]).slice(0, -1));
  find("notes").replaceChildren(...state.by_hand.map(line => make("p", `by hand: ${line}`, {className: "note small"})));
  find("moment").textContent = new Date().toLocaleTimeString();
}

// All curves are two paths, so that a thousand of them cost two elements.
function showCurves() {
  const points = [...trials.values()].flatMap(trial => trial.curve);
  if (!points.length) return;
  const most = Math.max(...points.map(([examples]) => examples));
  const values = points.map(([, value]) => value), low = Math.min(...values), high = Math.max(...values);
  const x = examples => 45 + 580 * examples / most;
  const y = value => 15 + 215 * (1 - (value - low) / (high - low || 1));
  const path = of => of.filter(trial => trial.curve.length).map(trial => "M" + trial.curve
    .map(([examples, value]) => `${x(examples).toFixed(1)} ${y(value).toFixed(1)}`).join("L")
    + (trial.curve.length === 1 ? "h2" : "")).join("");
  const [open, ended] = [[], []];
  for (const trial of trials.values()) (UNFINISHED.includes(trial.state) ? open : ended).push(trial);
  find("curves").innerHTML = `<path class="ended" d="${path(ended)}"/><path class="at-work" d="${path(open)}"/>`
    + `<text x="4" y="20">${percent(high)}</text><text x="4" y="232">${percent(low)}</text>`
    + `<text x="625" y="250" text-anchor="end">${most.toLocaleString("en")} examples</text>`;
}

function showTree() {
  const root = {below: new Map()};
  for (const trial of trials.values()) {
    let node = root;
    for (const [, key, label, reused] of trial.stages) {
      if (!node.below.has(key)) node.below.set(key, {key, label, below: new Map(), trials: [], reuses: 0});
      node = node.below.get(key);
      node.trials.push(trial.number);
      node.reuses += reused;
    }
  }
  const open = new Set([...document.querySelectorAll("#tree details[open]")].map(one => one.dataset.key));
  find("tree").replaceChildren(listOf(root, open));
}
function listOf(node, open) {
  const list = make("ul", "");
  for (const child of [...node.below.values()].sort((a, b) => b.trials.length - a.trials.length)) {
    const item = make("li", ""), text = `${child.label} · ${child.trials.length} trial`
      + (child.trials.length === 1 ? ` (${child.trials[0]})` : "s") + (child.reuses ? ` · ↺ ${child.reuses}` : "");
    if (child.below.size) {
      const details = make("details", "", {open: open.has(child.key)});
      details.dataset.key = child.key;
      details.append(make("summary", text));
      // What is folded is made when it is opened.
      const fill = () => details.open && details.children.length === 1 && details.append(listOf(child, open));
      details.addEventListener("toggle", fill);
      fill();
      item.append(details);
    } else item.textContent = text;
    list.append(item);
  }
  return list;
}

function rank(trial) {
  const place = UNFINISHED.indexOf(trial.state);
  return [place < 0 ? UNFINISHED.length : place, trial.objective === null ? Infinity : -sign * trial.objective, trial.number];
}
function showTrials() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const list = [...trials.values()].filter(trial => {
    const text = `${trial.number} ${trial.state} ${trial.note} ${Object.entries(trial.parameters).flat().join(" ")}`.toLowerCase();
    return words.every(word => text.includes(word));
  }).map(trial => [rank(trial), trial]).sort(([a], [b]) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  find("shown").textContent = `${Math.min(shown, list.length)} of ${list.length}`;
  find("more").hidden = list.length <= shown;
  find("trials").replaceChildren(...list.slice(0, shown).map(([, trial]) => rowOf(trial)));
}
function rowOf(trial) {
  const row = make("tr", "", {id: `trial-${trial.number}`}), cell = (text, name = "") => row.insertCell().appendChild(make("span", text, {className: name}));
  cell(trial.number);
  cell(trial.state, `state ${trial.state}`).after(make("small", trial.note));
  cell(trial.configuration);
  cell(trial.seed);
  cell(percent(trial.objective ?? trial.curve.at(-1)?.[1] ?? null));
  cell(Object.entries(trial.parameters).map(pair => pair.join(" ")).join(", "));
  cell(trial.stages.map(([kind, , , reused]) => kind + (reused ? " ↺" : "")).join(" → "));
  const buttons = row.insertCell();
  if (UNFINISHED.includes(trial.state)) buttons.append(make("button", "stop", {className: "ask", onclick: () => ask("stop", trial, [])}));
  buttons.append(make("button", "clone", {className: "ask", onclick: () => clone(trial)}));
  cell(trial.run, "run").addEventListener("click", () => trial.run
    && open(`${main.dataset.mlflow}/#/runs/${trial.run}`, "_blank", "noopener"));
  return row;
}

async function ask(what, trial, changes) {
  find("answer").textContent = `${what} of trial ${trial.number} …`;
  let reply;
  try {
    reply = await (await fetch(what, {method: "POST", body: JSON.stringify({trial: trial.number, changes})})).json();
  } catch (problem) {
    reply = {error: `xlt ui has not answered (${problem.message})`};
  }
  find("answer").textContent = reply.done ?? reply.error;
  find("answer").className = `note small ${reply.error ? "warn" : ""}`;
}
function clone(trial) {
  const dialog = find("ask");
  dialog.querySelector("h3").textContent = `Try trial ${trial.number} again with`;
  dialog.querySelector("p.soft").textContent = `KEY=VALUE, separated by spaces; keys: ${trial.paths.join(", ")}`;
  dialog.onclose = () => dialog.returnValue && ask("clone", trial, dialog.querySelector("input").value.split(/\s+/).filter(Boolean));
  dialog.returnValue = "";
  dialog.showModal();
}

async function look() {
  try {
    const state = await (await fetch(`state?since=${version}`)).json();
    version = state.version;
    for (const row of state.rows) trials.set(row.number, row);
    showHead(state);
    if (state.rows.length) {
      showCurves();
      showTree();
      showTrials();
    }
  } catch (error) {
    find("moment").textContent = `no answer from xlt ui (${error.message}); trying again`;
  }
  setTimeout(look, PAUSE_MS);
}
find("filter").addEventListener("input", showTrials);
find("more").addEventListener("click", () => { shown += 10 * STEP; showTrials(); });
look();
