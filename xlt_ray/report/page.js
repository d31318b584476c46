"use strict";
// Rows of a table, of which only those that were scrolled to are in the document. The page holds
// the others as text, so that a table of any length costs nothing before it is looked at.
const STEP = 60;
class Rows {
  constructor(table) {
    this.body = table.tBodies[0];
    this.heads = [...table.tHead.rows[0].cells];
    this.filter = table.parentElement.previousElementSibling;
    if (!this.filter?.matches(".filter")) this.filter = null;
    this.words = [];
    this.made = this.body.rows.length;
    const scroller = table.parentElement;
    scroller.addEventListener("scroll", () => {
      if (scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 400) this.make(STEP);
    }, {passive: true});
    this.heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click",
      () => this.sort(head, column)));
    const box = this.filter?.querySelector("input");
    box?.addEventListener("input", () => {
      this.words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.show();
    });
    if (box?.value) box.dispatchEvent(new Event("input"));
    else if (this.body.querySelector("script")) this.count();
  }
  get all() {
    if (!this.rows) {
      const rest = this.body.querySelector("script");
      const text = rest ? rest.textContent.split(/(?=<tr[ >])/).filter(one => one.startsWith("<tr")) : [];
      this.rows = [...[...this.body.rows].map(row => row.outerHTML), ...text];
      this.list = this.rows;
      rest?.remove();
    }
    return this.rows;
  }
  make(more) {
    if (!this.rows && !this.body.querySelector("script")) return;
    this.all;
    if (this.made >= this.list.length) return;
    this.body.insertAdjacentHTML("beforeend", this.list.slice(this.made, this.made + more).join(""));
    this.made += more;
  }
  show() {
    const words = this.words;
    this.list = words.length ? this.all.filter(row => {
      const text = textOf(row);
      return words.every(word => text.includes(word));
    }) : this.all;
    this.body.replaceChildren();
    this.made = 0;
    this.make(STEP);
    this.count();
  }
  count() {
    const output = this.filter?.querySelector("output");
    if (output) output.textContent = this.words.length ? `${this.list.length} of ${this.all.length}` : "";
  }
  sort(head, column) {
    const down = head.getAttribute("aria-sort") !== "descending";
    this.heads.forEach(one => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = this.all.map(row => [keyOf(row, column), row]);
    keyed.sort(([x], [y]) => {
      // What is missing stays below, whichever way.
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", {numeric: true}) : x - y;
      return down ? -order : order;
    });
    this.rows = keyed.map(([, row]) => row);
    this.show();
  }
  // Make the rows down to the one that holds an element; null where there is none.
  find(id) {
    const holds = row => row.includes(`id="${id}"`);
    if (!this.all.some(holds)) return null;
    if (!this.list.some(holds)) {
      this.filter.querySelector("input").value = "";
      this.words = [];
      this.show();
    }
    this.make(Math.max(0, this.list.findIndex(holds) + 20 - this.made));
    return document.getElementById(id);
  }
}
function textOf(row) {
  const names = {amp: "&", lt: "<", gt: ">", "#34": "\"", "#39": "'"};
  return row.replace(/<[^>]*>/g, " ").replace(/&(amp|lt|gt|#34|#39);/g, (_, name) => names[name]).toLowerCase();
}
function keyOf(row, column) {
  const [, quoted, bare] = row.split("<td")[column + 1].match(/^[^>]*? data-v=(?:"([^"]*)"|([^\s>]*))/) ?? [];
  return quoted ?? bare ?? "";
}
const tables = [...document.querySelectorAll("table.sortable")].map(table => new Rows(table));

function reveal() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return;
  let target = document.getElementById(id);
  for (const rows of target ? [] : tables) target ??= rows.find(id);
  if (!target) return;
  const folded = target.closest("details");
  if (folded) folded.open = true;
  document.querySelectorAll("tr.linked").forEach(row => row.classList.remove("linked"));
  target.closest("tr")?.classList.add("linked");
  target.scrollIntoView({block: "center"});
}
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => tables.forEach(rows => rows.make(Infinity)));

// The trials, runs and stages behind a number.
let links;
const behind = document.getElementById("behind");
function make(name, text, more = {}) {
  return Object.assign(document.createElement(name), {textContent: text}, more);
}
function valueOf([number, ...scores], stem, what) {
  const groups = links.groups[stem], place = code => groups.all.indexOf(code);
  const of = code => scores[place(code)] ?? NaN;
  const mean = codes => codes.reduce((sum, code) => sum + of(code), 0) / codes.length;
  if (what === "dev") return links.trials[number].dev;
  if (what === "gap") return of(groups.all[0]) - mean(groups.without);
  return what in groups ? mean(groups[what]) : of(what);
}
function meanOf(values, given) {
  const number = values.length, mean = values.reduce((sum, one) => sum + one, 0) / number;
  const half = links.quantiles[number]
    * Math.sqrt(values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (number - 1) / number);
  const percent = one => (100 * one).toFixed(2);
  return `mean of ${number} seed${number === 1 ? "" : "s"}: ${percent(mean)}` + (half > 0
    ? `, 95 % interval ${percent(mean - half)} to ${percent(mean + half)} (Student's`
      + (given ? `, given ${given}, which these seeds share)` : ")") : "");
}
document.addEventListener("click", event => {
  const link = event.target.closest(".scores td > a:not([href])");
  if (!link) return;
  links ??= JSON.parse(document.getElementById("links").textContent);
  const cell = link.parentElement, row = cell.parentElement, table = row.closest("table");
  const stem = row.dataset.t ?? table.dataset.t, configuration = row.dataset.c;
  const what = table.tHead.rows[0].cells[cell.cellIndex].dataset.w;
  const list = make("ul", "");
  for (const one of links.scores[stem][configuration]) {
    const [number] = one, trial = links.trials[number], value = valueOf(one, stem, what), item = make("li", "");
    item.append(make("b", isNaN(value) ? "missing" : (100 * value).toFixed(2)), " ",
      make("a", `trial ${number}`, {href: `#trial-${number}`}), `, seed ${trial.seed}`);
    if (trial.run) item.append(make("br", ""), "MLflow run ", make("a", trial.run, {className: "run"}));
    item.append(make("br", ""));
    trial.stages.forEach(([kind, key, short, reused], place) => item.append(place ? " → " : "",
      make("a", `${kind} ${short}${reused ? " ↺" : ""}`, {href: `#stage-${key}`})));
    list.append(item);
  }
  const values = links.scores[stem][configuration].map(one => valueOf(one, stem, what))
    .filter(one => typeof one === "number" && !isNaN(one));
  const names = {all: "mean over all languages", without: "mean without the source language",
    dev: "objective", gap: "transfer gap"};
  behind.querySelector("div").replaceChildren(
    make("h3", `Configuration ${configuration}: ${names[what] ?? what}`),
    make("p", meanOf(values, links.given[stem][configuration])), list);
  behind.showModal();
});
document.addEventListener("click", event => {
  const run = event.target.closest("a.run");
  if (run) open(`${document.querySelector("main").dataset.mlflow}/#/runs/${run.textContent}`, "_blank", "noopener");
});
// The configurations that an effect is the mean of.
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-l]");
  if (!link) return;
  const [parameter, value] = link.closest("tr").cells, list = make("p", "");
  link.dataset.l.split(",").forEach((one, place) => list.append(place ? ", " : "",
    make("a", one, {href: `#configuration-${one}`})));
  behind.querySelector("div").replaceChildren(
    make("h3", `${parameter.textContent}: ${value.textContent}`), list);
  behind.showModal();
});
behind.addEventListener("click", event => {
  if (event.target === behind || event.target.closest("a")) behind.close();
});
