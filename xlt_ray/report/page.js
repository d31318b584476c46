"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach(one => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.v ?? "";
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      // What is missing stays below, whichever way.
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", {numeric: true}) : x - y;
      return down ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }));
}
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details");
  if (folded) { folded.open = true; target.scrollIntoView({block: "center"}); }
}
addEventListener("hashchange", reveal);
reveal();

// Rows that hold every word stay.
for (const box of document.querySelectorAll(".filter input")) {
  const filter = box.closest(".filter"), body = filter.nextElementSibling.querySelector("tbody");
  const apply = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    filter.querySelector("output").textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  };
  box.addEventListener("input", apply);
  apply();
}

// The trials, runs and stages behind a number.
const links = JSON.parse(document.getElementById("links").textContent);
const behind = document.getElementById("behind");
function make(name, text, more = {}) {
  return Object.assign(document.createElement(name), {textContent: text}, more);
}
function valueOf(one, stem, what) {
  const trial = links.trials[one.trial], groups = links.groups[stem];
  const mean = codes => codes.every(code => code in one.scores) ?
    codes.reduce((sum, code) => sum + one.scores[code], 0) / codes.length : NaN;
  if (what === "dev") return trial.dev;
  if (what === "gap") return one.scores[groups.all[0]] - mean(groups.without);
  return what in groups ? mean(groups[what]) : one.scores[what] ?? NaN;
}
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-c]");
  if (!link) return;
  event.preventDefault();
  const {t: stem, c: configuration, w: what} = link.dataset;
  const list = make("ul", "");
  for (const one of links.scores[stem][configuration]) {
    const trial = links.trials[one.trial], value = valueOf(one, stem, what), item = make("li", "");
    item.append(make("b", isNaN(value) ? "missing" : (100 * value).toFixed(2)), " ",
      make("a", `trial ${one.trial}`, {href: `#trial-${one.trial}`}), `, seed ${trial.seed}`);
    if (trial.run) item.append(make("br", ""), "MLflow run ", make("code", trial.run));
    item.append(make("br", ""));
    trial.stages.forEach(([kind, key, short, reused], place) => item.append(place ? " → " : "",
      make("a", `${kind} ${short}${reused ? " ↺" : ""}`, {href: `#stage-${key}`})));
    list.append(item);
  }
  const names = {all: "mean over all languages", without: "mean without the source language",
    dev: "objective", gap: "transfer gap"};
  behind.querySelector("div").replaceChildren(
    make("h3", `Configuration ${configuration}: ${names[what] ?? what}`), list);
  behind.showModal();
});
behind.addEventListener("click", event => {
  if (event.target === behind || event.target.closest("a")) behind.close();
});
