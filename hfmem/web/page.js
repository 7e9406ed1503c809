"use strict";
// The page asks again at each change. What is asked is its address; a token is in neither.

const form = document.getElementById("ask");
const answer = document.getElementById("answer");
const token = document.getElementById("token");
const HUB = "https://huggingface.co";
let waiting = 0;
let asking = null;

function query() {
  const pairs = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) pairs.append(name, value.trim());
  return pairs;
}

function headers() {
  const given = token.value.trim();
  return given ? { "X-Hub-Token": given } : {};
}

function later(milliseconds) {
  clearTimeout(waiting);
  waiting = setTimeout(ask, milliseconds);
}

function here(pairs) {
  const text = pairs.toString();
  return (text ? `?${text}` : location.pathname) + location.hash;
}

async function ask() {
  clearTimeout(waiting);
  asking?.abort();
  const mine = (asking = new AbortController());
  const pairs = query();
  history.replaceState(null, "", here(pairs));
  // a Space is a frame of the Hub's page, which keeps the address that people see
  if (window.parent !== window) window.parent.postMessage({ queryString: pairs.toString() }, HUB);
  answer.setAttribute("aria-busy", "true");
  let html;
  try {
    const found = await fetch("answer", { method: "POST", headers: headers(), body: pairs, signal: mine.signal });
    html = await found.text();
    if (!found.ok) throw new Error(found.status);
  } catch (error) {
    if (mine.signal.aborted) return;
    html = problem("The page's server does not answer.", "Check the network, and try again.");
  }
  if (mine.signal.aborted) return;
  show(html, pairs);
}

function problem(...lines) {
  const box = document.createElement("div");
  box.className = "problem";
  for (const line of lines) box.append(Object.assign(document.createElement("p"), { textContent: line }));
  return box.outerHTML;
}

function opened(root) {
  return [...root.querySelectorAll("details[open] > summary")].map((each) => each.textContent);
}

function show(html, pairs) {
  const open = new Set(opened(answer));
  answer.innerHTML = html;  // the server has escaped every name in it
  for (const each of answer.querySelectorAll("details > summary"))
    if (open.has(each.textContent)) each.parentElement.open = true;
  answer.removeAttribute("aria-busy");
  const models = pairs.getAll("model");
  document.title = models.length ? `Memory of ${models.join(", ")}` : "hfmem: the memory that a model needs";
  document.getElementById("told").textContent = said();
  shown();
}

function said() {
  return answer.firstElementChild?.dataset.told ?? "";
}

// On a phone the answer is below the form: its sentence stands at the foot until the answer is in sight.
const verdict = document.getElementById("verdict");
new IntersectionObserver(([answered]) => {
  verdict.classList.toggle("away", !answered.isIntersecting && Boolean(said()));
}, { rootMargin: "0px 0px -120px 0px" }).observe(answer);

// What does not apply is hidden, and not asked for.
function sync() {
  const value = (name) => form.querySelector(`[name="${name}"]`)?.value ?? "";
  const runtimes = value("runtime") ? [value("runtime")] : (answer.firstElementChild?.dataset.runtimes ?? "").split(" ");
  const now = {
    engines: runtimes,
    modes: [value("train") ? "training" : "inference"],
    methods: [value("method") || "exact"],
    train: [value("train")],
  };
  for (const control of form.querySelectorAll(".control")) {
    const applies = Object.entries(now).every(([what, words]) => {
      const only = control.dataset[what]?.split(" ");
      return !only || only.some((word) => words.includes(word));
    });
    control.hidden = !applies;
    for (const field of control.querySelectorAll("input, select")) field.disabled = !applies;
  }
  for (const panel of form.querySelectorAll("details.panel"))
    panel.hidden = panel.querySelector(".control") && !panel.querySelector(".control:not([hidden])");
}

const VIEW = "#textbook";

function shown() {
  const book = answer.querySelector(VIEW);
  if (book && location.hash === VIEW) book.open = true;
  if (answer.querySelector("[data-code='gated_model_error']")) token.closest("details").open = true;
  sync();
  verdict.textContent = said();
  reach();
  for (const each of answer.querySelectorAll("pre")) addCopy(each);
  for (const code of answer.querySelectorAll("td > code")) {
    const changes = changesOf(code.textContent);
    if (!changes) continue;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "apply", textContent: "Apply" });
    button.setAttribute("aria-label", `Apply ${code.textContent}`);
    button.addEventListener("click", () => apply(changes));
    code.after(button);
  }
}

// What is wider than its place is scrolled, by keyboard too.
function reach() {
  for (const each of answer.querySelectorAll(".wide")) {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
}
new ResizeObserver(reach).observe(answer);

function addCopy(block) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", () => copy(block.querySelector("code").textContent.trim(), button));
  block.after(button);
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a frame may not write: then the text is selected by hand
    window.prompt("Copy this:", text);
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

// `--kv-dtype fp8 --tp 2` as fields and their values; null where a flag has no field here.
function changesOf(words) {
  const parts = words.match(/'[^']*'|\S+/g) ?? [];
  const changes = [];
  for (let at = 0; at < parts.length; at += 1) {
    const control = form.querySelector(`.control[data-flag="${CSS.escape(parts[at])}"]`);
    if (!parts[at].startsWith("--") || !control) return null;
    const field = control.querySelector("input, select");
    const next = parts[at + 1];
    const value = next !== undefined && !next.startsWith("--") ? parts[(at += 1)].replace(/^'|'$/g, "") : "on";
    if (control.classList.contains("list") && form.querySelectorAll(`[name="${field.name}"]`).length > 1) return null;
    changes.push([field, value]);
  }
  return changes.length ? changes : null;
}

function apply(changes) {
  for (const [field, value] of changes) {
    if (field.type === "checkbox") field.checked = true;
    else field.value = value;
    field.disabled = false;
    const panel = field.closest("details.panel");
    if (panel) panel.open = true;
  }
  sync();
  ask();
}

async function suggest(field) {
  const word = field.value.trim();
  if (word.length < 3) return;
  try {
    const found = await fetch(`suggest?q=${encodeURIComponent(word)}`);
    if (!found.ok) return;
    const list = document.getElementById("list-model");
    const known = new Set([...list.options].map((option) => option.value));
    for (const id of await found.json())
      if (!known.has(id)) list.append(Object.assign(document.createElement("option"), { value: id }));
  } catch { /* suggestions are a help only */ }
}

function isKnown(field) {
  return [...(field.list?.options ?? [])].some((option) => option.value === field.value);
}

let suggesting = 0;
form.addEventListener("input", (event) => {
  const field = event.target;
  if (field === token) return;
  if (field.name === "model") {
    clearTimeout(suggesting);
    suggesting = setTimeout(() => suggest(field), 200);
  }
  if (field.type !== "text") return;
  if (isKnown(field)) later(0);
  else if (field.inputMode === "numeric") later(250);
});
form.addEventListener("change", (event) => {
  if (event.target === token && !token.value.trim()) return later(0);
  sync();
  later(0);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("click", (event) => {
  const button = event.target.closest("button.more");
  if (!button) return;
  const group = form.querySelector(`.several[data-name="${button.dataset.for}"]`);
  const fields = group.querySelectorAll("input");
  const empty = [...fields].find((field) => !field.value.trim());
  if (empty || fields.length >= Number(group.dataset.most)) return (empty ?? fields[fields.length - 1]).focus();
  const field = fields[0].cloneNode();
  field.removeAttribute("id");
  field.value = "";
  field.setAttribute("value", "");
  group.append(field);
  field.focus();
});
document.getElementById("share").addEventListener("click", (event) => {
  const pairs = query();
  copy(new URL(here(pairs), location.href).href, event.currentTarget);
});
document.getElementById("reset").addEventListener("click", () => { location.href = location.pathname; });
answer.addEventListener("toggle", async (event) => {
  const box = event.target;
  reach();
  if (box.id && box.open !== (location.hash === VIEW))
    history.replaceState(null, "", location.pathname + location.search + (box.open ? VIEW : ""));
  if (!box.open || !box.dataset.json || box.dataset.asked) return;
  box.dataset.asked = "yes";
  const found = await fetch(box.dataset.json, { headers: headers() });
  box.querySelector("code").textContent = await found.text();
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName)) return;
  event.preventDefault();
  document.getElementById("o-model").focus();
});

// light, dark, or as the system has it
const root = document.documentElement;
const wished = new URLSearchParams(location.search).get("__theme");
function theme(word) {
  if (word === "light" || word === "dark") root.dataset.theme = word;
  else delete root.dataset.theme;
}
try { theme(wished ?? localStorage.getItem("theme")); } catch { theme(wished); }
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme(dark ? "light" : "dark");
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it lasts until the page is left */ }
});

document.getElementById("mcp").textContent = JSON.stringify(
  { mcpServers: { hfmem: { url: new URL("gradio_api/mcp/", location.href.split("?")[0]).href } } }, null, 2);
addCopy(document.getElementById("mcp").parentElement);
shown();
