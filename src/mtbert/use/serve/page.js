"use strict";
// Asks the server, and shows what it says. page_answers.js draws the answers.

const QUIET = 150; // milliseconds without typing before the server is asked
const SPOKEN = 700; // milliseconds before an answer is read out to those who listen

const FORMS = [
  {title: "One text", first: "Text", size: 1, examples: [
    ["The soup was cold, but the view over the harbour made up for it."],
    ["What a waste of two hours."],
    ["Maria Lopez flew from Lisbon to Oslo on Monday."],
  ]},
  {title: "Two texts", first: "First text", size: 2, examples: [
    ["A red kite circles above the barn.", "A bird of prey flies over a farm."],
    ["How do I keep basil alive indoors?", "What does basil need in a kitchen?"],
    ["The library opens at nine.", "The library is closed today."],
  ]},
  {title: "Candidates", first: "Query", size: null, examples: [
    ["How do I renew a lost library card?", "We are open from nine to five.", "Bring a photo to the front desk.",
      "Books can be kept for three weeks."],
    ["What do otters eat?", "The ferry sails twice a day.", "Mostly fish, crabs and mussels."],
  ]},
];

const at = id => document.getElementById(id);

let token = ""; // lives in this page alone
let tasks = [], form = null, cards = [];
let asking = null, timer = 0, speaking = 0, code = null;

// Talking to the server -------------------------------------------------------------------------------------

class Trouble extends Error {
  constructor(status, message, wait) { super(message); this.status = status; this.wait = wait; }
}

const call = async (path, options = {}) => {
  const headers = {...options.headers, ...(token && {authorization: `Bearer ${token}`})};
  let response, found = null;
  try {
    response = await fetch(path, {...options, headers, cache: "no-store"});
    found = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!response) throw new Trouble(0, "The server does not answer. Is it still running?");
  }
  if (response.ok && found) return found;
  const said = found && found.error && found.error.message || `the server answered with status ${response.status}.`;
  const message = said.replace(/^text 1: /, "The text ").replace(/^./, first => first.toUpperCase());
  throw new Trouble(response.status, message, Number(response.headers.get("retry-after")) || 1);
};

// Returns the body of the request, or null while a text is missing.
const request = () => {
  const one = at("one").value, two = at("two").value;
  const rest = {1: [], 2: [two], null: at("candidates").value.split("\n").filter(line => line.trim())}[form.size];
  const row = [one, ...rest];
  if (row.some(text => !text.trim()) || (form.size === null && row.length < 2)) return null;
  const takers = tasks.filter(task => task.texts === row.length || (task.texts === null && row.length > 1));
  const names = takers.length === cards.length ? {} : {tasks: cards.map(card => card.task.name)};
  return {texts: [form.size === 1 ? one : row], ...names};
};

const ask = async () => {
  clearTimeout(timer);
  if (asking) asking.abort();
  const body = request(), mine = asking = new AbortController();
  drawCode();
  if (!body) { settle(); empty(); return; }
  wait();
  const begin = performance.now();
  try {
    const found = await call("v1/predict", {method: "POST", headers: {"content-type": "application/json"},
      body: JSON.stringify(body), signal: mine.signal});
    if (mine !== asking) return; // a later request has taken its place
    settle();
    show(found.answers[0], [body.texts[0]].flat());
    const cut = found.cut.length ? "The text is too long: only its start was read. " : "";
    at("time").textContent = `${cut}${Math.round(performance.now() - begin)} ms`;
  } catch (error) {
    if (mine === asking) failed(error, ask);
  }
};
const askSoon = () => {
  clearTimeout(timer);
  wait();
  timer = setTimeout(ask, QUIET);
};

const wait = () => { at("cards").ariaBusy = "true"; };

// Ends the wait, and takes back what was said about earlier requests.
const settle = () => {
  at("cards").ariaBusy = "false";
  at("trouble").hidden = true;
  at("time").textContent = "";
};

const failed = (error, again) => {
  if (!(error instanceof Trouble)) throw error;
  settle();
  empty();
  const needed = error.status === 401, busy = error.status === 429;
  at("login").hidden = !needed;
  const [said, retry] = at("trouble").children;
  said.textContent = busy ? `${error.message} The page asks again in ${error.wait} s.`
    : needed ? "This is not the server's token." : error.message;
  retry.hidden = needed || busy;
  retry.onclick = again;
  at("trouble").hidden = needed && !token;
  if (busy) timer = setTimeout(again, 1000 * error.wait);
  if (needed) {
    at("login").onsubmit = () => { token = at("token").value.trim(); at("login").hidden = true; again(); };
    at("token").value = "";
    at("token").focus();
  }
};

// Answers ---------------------------------------------------------------------------------------------------

const show = (answers, texts) => {
  const said = cards.map(card => `${card.task.name}: ${draw(card, answers[card.task.name], texts)}`);
  clearTimeout(speaking);
  speaking = setTimeout(() => { at("said").textContent = `${said.join(". ")}.`; }, SPOKEN);
};

// Shows what each task can answer, in place of answers.
const empty = () => {
  clearTimeout(speaking);
  at("said").textContent = "";
  for (const card of cards) {
    const {range} = card.task, names = namesOf(card.task);
    const more = names.length > FEW ? ` and ${names.length - FEW} more` : "";
    card.bars = card.scale = null;
    const can = range ? `${minus(range[0])} to ${minus(range[1])}` : names.slice(0, FEW).join(" · ") + more;
    card.body.replaceChildren(el("p", "note", can || "the candidates, the best first"));
  }
};

// The request -----------------------------------------------------------------------------------------------

const choose = chosen => {
  form = chosen;
  at("one-name").textContent = form.first;
  at("with-two").hidden = form.size !== 2;
  at("with-candidates").hidden = form.size !== null;
  cards = tasks.filter(task => task.texts === form.size).map(task => {
    const body = el("div", ""), head = el("div", "head", el("h3", "", task.name), el("span", "note", kindOf(task)));
    const wide = ["tokens", "ranking"].includes(task.type) || (task.labels || []).length > FEW;
    return {task, body, node: el("article", wide ? "card wide" : "card", head, body)};
  });
  at("cards").replaceChildren(...cards.map(card => card.node));
  at("examples").replaceChildren(...form.examples.map(row => button(row.slice(0, 2).join(" · "), () => {
    const [one, ...rest] = row;
    at("one").value = one;
    at(form.size === null ? "candidates" : "two").value = rest.join("\n");
    ask();
  })));
  empty();
  ask();
};

const start = async () => {
  let found;
  try {
    found = await call("v1/tasks");
  } catch (error) {
    failed(error, start);
    return;
  }
  settle();
  tasks = Object.entries(found.tasks).map(([name, task]) => ({name, ...task}));
  document.title = `${found.model} · mtbert`;
  at("model").textContent = found.model;
  at("about").textContent = tasks.length === 1 ? "One model, one task." : `One model, ${tasks.length} tasks.`;
  at("paths").hidden = token !== ""; // a link cannot send it
  const forms = FORMS.filter(each => tasks.some(task => task.texts === each.size));
  at("forms").hidden = forms.length < 2;
  for (const each of forms) {
    const input = el("input", "");
    Object.assign(input, {type: "radio", name: "form", checked: each === forms[0]});
    input.addEventListener("change", () => choose(each));
    at("forms").append(el("label", "", input, each.title));
  }
  at("request").hidden = false;
  choose(forms[0]);
  at("one").focus();
};

// Code ------------------------------------------------------------------------------------------------------

// Returns JSON that is a literal of Python too. Unseen characters are escaped: terminals may obey or drop them.
const literal = value => JSON.stringify(value).replace(
  /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
  unseen => `\\u${unseen.charCodeAt(0).toString(16).padStart(4, "0")}`);
const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;

const CODES = {
  curl: (url, body) => [`curl ${quoted(url)}`, "-H 'content-type: application/json'",
    ...(token ? ['-H "authorization: Bearer $MTBERT_TOKEN"'] : []), `-d ${quoted(body)}`].join(" \\\n  "),
  python: (url, body) => [
    "import json", ...(token ? ["import os"] : []), "import urllib.request", "",
    `headers = {"content-type": "application/json"}`,
    ...(token ? ['headers["authorization"] = "Bearer " + os.environ["MTBERT_TOKEN"]'] : []),
    `body = ${body}`,
    `request = urllib.request.Request(${literal(url)}, json.dumps(body).encode(), headers)`,
    "print(json.load(urllib.request.urlopen(request)))",
  ].join("\n"),
};

const drawCode = () => {
  const body = request(), pairs = Object.entries(body || {});
  for (const each of document.querySelectorAll("[data-code]")) each.disabled = !body;
  at("copied").textContent = "";
  at("code").hidden = !body || !code;
  const written = `{${pairs.map(([key, value]) => `"${key}": ${literal(value)}`).join(", ")}}`;
  at("code").textContent = body && code ? CODES[code](new URL("v1/predict", location).href, written) : "";
};

const copy = async kind => {
  code = kind;
  drawCode();
  try {
    await navigator.clipboard.writeText(at("code").textContent);
    at("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(at("code"));
    at("copied").textContent = "The browser does not let the page copy. The code is selected: copy it.";
  }
};

for (const each of document.querySelectorAll("[data-code]")) {
  each.addEventListener("click", () => copy(each.dataset.code));
}
for (const each of document.forms) each.addEventListener("submit", event => event.preventDefault());
at("request").addEventListener("input", event => { if (event.target.type !== "radio") askSoon(); });
start();
