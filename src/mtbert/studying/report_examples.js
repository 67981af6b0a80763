"use strict";
// The list of examples with its filters, and beside it the chosen example with the words that differ.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters"), list = document.querySelector("#browser tbody");
const pane = document.getElementById("example");
const PAGE = 25;
const SURE = 0.9; // a wrong answer with a higher probability counts as sure
const MOST_WORDS = 1500; // of longer texts, differing words are not marked
const LONGEST_NAME = 60; // characters of a label in a table
let sort = {key: "loss", down: true}, shown = PAGE, chosen = null;

const KINDS = [
  [data.runs.length > 1 ? "all errors" : "errors", "errors", e => e.wrong],
  ["sure but wrong", "sure", e => e.wrong && e.p !== null && e.p >= SURE],
  ["wrong in every run", "always", e => e.right === 0],
  ["wrong in some runs", "some", e => e.right > 0 && e.right < e.answered],
  ["fixed by this row", "fixed", e => e.change > 0],
  ["broken by this row", "broken", e => e.change < 0],
  ["right answers", "right", e => !e.wrong],
  ["everything listed", "all", () => true],
];

const make = (name, text = "", kind = "") => {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const named = (task, value) => {
  if (value === null) return "";
  const labels = data.tasks[task].labels;
  return labels ? labels[value] : typeof value === "string" ? value : value.toFixed(2);
};
const fill = (select, options, all) => {
  const before = select.value;
  select.replaceChildren(...(all ? [new Option(all, "")] : []), ...options.map(([text, value]) => new Option(text, value)));
  if (options.some(([, value]) => String(value) === before)) select.value = before;
};
// Returns the name of a label, cut if it is very long.
const brief = (task, value) => {
  const name = named(task, value);
  return name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)} …` : name;
};
const refill = () => {
  const labels = (data.tasks[form.task.value] || {}).labels;
  const options = labels ? labels.map((label, i) => [brief(form.task.value, i), i]) : [];
  for (const select of [form.label, form.answer]) { fill(select, options, "any"); select.disabled = !labels; }
};

// Returns the examples of the chosen task as the chosen run answered them.
const answered = () => {
  const run = Number(form.run.value);
  return data.examples.filter(e => e.task === form.task.value && e.answers[run]).map(e => {
    const [answer, p, distance, loss] = e.answers[run];
    const number = e.answers.filter(a => a).length, wrong = e.wrong.filter(w => w).length;
    return {example: e, task: e.task, text: e.texts.join(" "), label: e.label, answer, p, distance, loss,
      wrong: e.wrong[run], right: number - wrong, answered: number, change: e.change[data.rows[run]]};
  });
};
const wanted = () => {
  const text = form.text.value.toLowerCase(), fits = KINDS.find(([, value]) => value === form.kind.value)[2];
  return answered().filter(e => fits(e) && e.text.toLowerCase().includes(text)
    && (form.label.value === "" || e.label === Number(form.label.value))
    && (form.answer.value === "" || e.answer === Number(form.answer.value)));
};
const compare = (a, b) => {
  const x = a[sort.key], y = b[sort.key];
  if (x === null || y === null) return (x === null) - (y === null);
  const order = typeof x === "string" ? x.localeCompare(y) : x - y;
  return sort.down ? -order : order;
};

// Returns which words of each of two texts are not in a longest common subsequence of both.
const differing = (first, second) => {
  const a = first.map(word => word.toLowerCase()), b = second.map(word => word.toLowerCase());
  const length = Array.from({length: a.length + 1}, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
    length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  const found = [a.map(() => true), b.map(() => true)];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { found[0][i++] = false; found[1][j++] = false; }
    else if (length[i + 1][j] >= length[i][j + 1]) i++;
    else j++;
  }
  return found;
};

// Returns the texts of an example as quotations; in a pair, words that only one text has are marked.
const quotations = texts => {
  const words = texts.map(text => text.match(/[\p{L}\p{N}\p{M}_'’]+|[^\p{L}\p{N}\p{M}_'’]+/gu) || []);
  const isWord = part => /[\p{L}\p{N}]/u.test(part);
  const small = texts.length === 2 && words.every(parts => parts.length < 2 * MOST_WORDS);
  const marks = small ? differing(...words.map(parts => parts.filter(isWord))) : null;
  return texts.map((text, i) => {
    const quotation = make("blockquote");
    quotation.dir = "auto";
    if (!marks) { quotation.textContent = text; return quotation; }
    let number = 0;
    for (const part of words[i]) quotation.append(isWord(part) && marks[i][number++] ? make("mark", part) : part);
    return quotation;
  });
};

const legend = () => {
  const line = make("p", "", "note");
  line.append(make("mark", "marked"), ": words that the other text does not have at this place");
  return line;
};

const table = (heads, rows) => {
  const made = make("table"), head = made.createTHead().insertRow(), body = made.createTBody();
  for (const text of heads) { const th = make("th", text); th.scope = "col"; head.append(th); }
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach(([text, kind]) => row.append(make("td", text, kind)));
  }
  const box = make("div", "", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Answers of every run");
  box.append(made);
  return box;
};

const choose = entry => {
  chosen = entry ? entry.example : null;
  for (const row of list.rows) row.classList.toggle("chosen", row.entry && row.entry.example === chosen);
  if (!entry) { pane.replaceChildren(make("p", "No example fits these filters.", "note")); return; }
  const e = entry.example, facts = make("dl"), labels = data.tasks[e.task].labels;
  const fact = (name, text) => facts.append(make("dt", name), make("dd", text));
  fact("id", e.id);
  fact("label", named(e.task, e.label));
  if (e.overlap !== null) fact("words in common", e.overlap.toFixed(2));
  const rows = e.answers.map((given, i) => given && [[data.runs[i], ""], [brief(e.task, given[0]), e.wrong[i] ? "wrong" : ""],
    [given[1] === null ? "" : given[1].toFixed(3), ""], [labels ? String(given[2]) : given[2].toFixed(2), ""]]).filter(row => row);
  const quoted = quotations(e.texts);
  if (quoted.some(quotation => quotation.querySelector("mark"))) quoted.push(legend());
  pane.replaceChildren(make("h3", e.task), ...quoted, facts, table(["run", "answer", "probability", "distance"], rows));
};

const draw = () => {
  const found = wanted().sort(compare);
  document.querySelector(".examples").classList.toggle("no-p", found.every(entry => entry.p === null));
  list.replaceChildren(...found.slice(0, shown).map(entry => {
    const row = document.createElement("tr"), text = make("td"), open = make("button", entry.example.texts.join(" ‖ ").slice(0, 300));
    row.entry = entry;
    open.type = "button";
    open.dir = "auto";
    open.addEventListener("click", () => choose(entry));
    open.addEventListener("focus", () => choose(entry));
    row.addEventListener("click", () => choose(entry));
    text.append(open);
    row.append(text, make("td", brief(entry.task, entry.label)), make("td", brief(entry.task, entry.answer), entry.wrong ? "wrong" : ""),
      make("td", entry.p === null ? "" : entry.p.toFixed(3)), make("td", entry.loss.toFixed(2)), make("td", `${entry.right}/${entry.answered}`));
    return row;
  }));
  const number = found.length === 1 ? "1 example" : `${found.length} examples`;
  document.getElementById("count").textContent = `${number} listed, ${Math.min(shown, found.length)} shown`;
  document.getElementById("more").hidden = found.length <= shown;
  choose(found.find(entry => entry.example === chosen) || found[0]);
};

fill(form.task, Object.keys(data.tasks).map(name => [name, name]));
fill(form.run, data.runs.map((name, i) => [name, i]));
fill(form.kind, KINDS.filter(([, kind]) => (data.compared || !["fixed", "broken"].includes(kind))
  && (data.runs.length > 1 || !["always", "some"].includes(kind))));
document.querySelector(".examples").classList.toggle("one-run", data.runs.length === 1);
if (data.first) { form.task.value = data.first.task; form.run.value = String(data.first.run); }
refill();
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("input", event => { if (event.target === form.task) refill(); shown = PAGE; draw(); });
document.getElementById("more").addEventListener("click", () => { shown += PAGE; draw(); });
for (const button of document.querySelectorAll(".examples th button")) button.addEventListener("click", () => {
  const key = button.dataset.key;
  sort = {key, down: sort.key === key ? !sort.down : key !== "text"};
  for (const th of document.querySelectorAll(".examples th")) th.removeAttribute("aria-sort");
  button.parentElement.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
  draw();
});
form.hidden = document.getElementById("browser").hidden = false;
draw();
