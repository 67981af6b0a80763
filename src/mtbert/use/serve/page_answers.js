"use strict";
// Draws answers. Foreign text becomes text nodes only: the page's policy forbids anything that makes HTML of it.

const FEW = 8; // bars that are shown at once
const HUES = 6; // colours of kinds of spans and of tags
const TYPES = {classification: "one class", ordinal: "ordered classes", binary: "yes or no", multilabel: "any labels",
  regression: "score", ranking: "ranking", tokens: "words"};

const el = (tag, kind, ...parts) => {
  const made = document.createElement(tag);
  made.className = kind;
  made.append(...parts);
  return made;
};
const button = (text, press) => {
  const made = el("button", "", text);
  made.type = "button";
  made.addEventListener("click", press);
  return made;
};

const percent = p => p > 0.999 && p < 1 ? ">99.9%" : p > 0 && p < 0.001 ? "<0.1%" : `${(100 * p).toFixed(1)}%`;
const minus = number => String(number).replace("-", "−");
const short = (text, most = 60) => text.length > most ? `${Array.from(text).slice(0, most).join("")}…` : text;

const big = (text, small = "") => el("p", "big", text, ...(small ? [" ", el("small", "", small)] : []));

// Returns a list of bars. ``rows`` holds name, share from 0 to 1, and what is written beside the bar.
const bars = (card, rows, chosen) => {
  const order = JSON.stringify(rows.map(([name]) => name));
  if (!card.bars || card.order !== order) {
    card.order = order;
    card.bars = el("ul", "bars", ...rows.map(([name]) => {
      const bar = el("span", "bar", el("i", "")), title = el("b", "", name);
      bar.ariaHidden = "true";
      title.dir = "auto";
      return el("li", "", title, bar, el("span", "number"));
    }));
  }
  rows.forEach(([name, share, said], i) => {
    const row = card.bars.children[i];
    row.className = chosen.includes(name) ? "chosen" : "";
    row.querySelector("i").style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    row.querySelector(".number").textContent = said;
  });
  return card.bars;
};

const probabilities = answer => Object.entries(answer)
  .filter(([key]) => key.startsWith("p(") && key.endsWith(")"))
  .map(([key, p]) => [key.slice(2, -1), p, percent(p)]);

// Returns bars for classes: few in their own order, of many the most probable ones first.
const classes = (card, answer, chosen) => {
  const all = probabilities(answer);
  if (all.length <= FEW) return [bars(card, all, chosen)];
  const shown = all.sort((a, b) => b[1] - a[1]).slice(0, card.open ? all.length : FEW);
  const toggle = button(card.open ? `Show the ${FEW} most probable` : `Show all ${all.length}`, () => {
    card.open = !card.open;
    draw(card, card.answer, card.texts);
    card.body.querySelector(".more button").focus();
  });
  return [bars(card, shown, chosen), el("div", "more", toggle)];
};

const scale = (card, value, [low, high]) => {
  if (!card.scale) card.scale = el("div", "scale", el("i", ""));
  card.scale.ariaHidden = "true";
  card.scale.firstChild.style.left = `${100 * Math.min(1, Math.max(0, (value - low) / (high - low)))}%`;
  return [card.scale, el("div", "ends", el("span", "", minus(low)), el("span", "", minus(high)))];
};

const kindOf = ({type, soft}) => soft ? `shares of ${soft === "votes" ? "votes" : "classes"}` : TYPES[type] || type;

// Returns the names of a task's answers; of BIO tags, the kinds of spans.
const namesOf = ({type, labels}) => {
  const names = labels || [], bio = type === "tokens" && names.every(name => name === "O" || /^[BI]-/.test(name));
  return bio ? [...new Set(names.filter(name => name !== "O").map(name => name.slice(2)))] : names;
};
const hue = (card, name) => `kind-${Math.max(0, namesOf(card.task).indexOf(name)) % HUES}`;

// One function for each form of an answer, by the key that tells it. Each returns what is drawn, and what is read out.
const DRAWN = {
  spans: (card, {spans}, [text]) => {
    const points = Array.from(text); // places count characters, of which JavaScript may need two units
    const whole = el("p", "text"), none = spans.length ? [] : [big("none found")];
    whole.dir = "auto";
    let stop = 0;
    for (const {start, end, label} of spans) {
      const found = el("mark", hue(card, label), points.slice(start, end).join(""), el("small", "", label));
      whole.append(points.slice(stop, start).join(""), found);
      stop = end;
    }
    whole.append(points.slice(stop).join(""));
    const rows = spans.map(({label, text, p}) => [`${text} (${label})`, p, percent(p)]);
    return [[...none, whole, bars(card, rows, [])], rows.map(([name]) => name).join(", ") || "none found"];
  },
  words: (card, {words, tags, p}) => {
    const items = words.map((word, i) => {
      const tag = el("span", `tag ${hue(card, tags[i] || "")}`, tags[i] || "not read");
      return el("li", "", word, tag, el("span", "note", p[i] === null ? "" : percent(p[i])));
    });
    return [[el("ul", "words", ...items)], words.map((word, i) => `${word} ${tags[i] || "not read"}`).join(", ")];
  },
  ranks: (card, {ranks, cosines}, [, ...candidates]) => {
    const order = [...ranks.keys()].sort((a, b) => ranks[a] - ranks[b]), best = candidates[order[0]];
    const rows = order.map(i => [`${ranks[i]}. ${candidates[i]}`, (1 + cosines[i]) / 2, minus(cosines[i].toFixed(3))]);
    const note = el("p", "note", "The number is the cosine between query and candidate, from −1 to 1.");
    return [[bars(card, rows, [rows[0][0]]), note], `${short(best)} comes first`];
  },
  labels: (card, answer) => {
    const {labels} = answer, chips = el("ul", "chips", ...labels.map(label => el("li", "", label)));
    return [[labels.length ? chips : big("none of them"), ...classes(card, answer, labels)],
      labels.join(", ") || "none of them"];
  },
  score: (card, {score}) => {
    const range = card.task.range || [0, 1], said = minus(score.toFixed(2));
    const [low, high] = range.map(minus);
    return [[big(said, `from ${low} to ${high}`), ...scale(card, score, range)], `${said}, from ${low} to ${high}`];
  },
  cosine: (card, {label, cosine}) => {
    const said = `cosine ${minus(cosine.toFixed(3))}`;
    return [[big(label, said), ...scale(card, cosine, [-1, 1])], `${label}, ${said}`];
  },
  label: (card, answer) => {
    const p = probabilities(answer).find(([name]) => name === answer.label), said = p ? p[2] : "";
    return [[big(answer.label, said), ...classes(card, answer, [answer.label])], `${answer.label}, ${said}`];
  },
};

const draw = (card, answer, texts) => {
  Object.assign(card, {answer, texts});
  const form = Object.keys(DRAWN).find(key => Object.hasOwn(answer, key));
  const other = () => [[el("pre", "", JSON.stringify(answer, null, 1))], "answered"];
  const [parts, said] = (form ? DRAWN[form] : other)(card, answer, texts);
  // A bar that stays in the page glides to its new length; one that is put in again would jump.
  parts.forEach((part, i) => {
    const now = card.body.childNodes[i];
    if (!now) card.body.append(part);
    else if (now !== part) now.replaceWith(part);
  });
  while (card.body.childNodes.length > parts.length) card.body.lastChild.remove();
  return said;
};
