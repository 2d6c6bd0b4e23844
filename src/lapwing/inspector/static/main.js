// The page as a whole: what comes over the wire goes to the model, and from there to whatever shows it.

import { Chart } from "./charts.js";
import { bytes, count, short, span } from "./format.js";
import { Model } from "./model.js";
import { Panel } from "./panel.js";
import { Table } from "./table.js";
import { Topics } from "./topics.js";
import { Wire } from "./wire.js";

const FAILURES = new Set(["1002", "1003", "1006", "1007", "1008", "1009", "1010", "1011", "1015"]);
const THEMES = ["auto", "light", "dark"];
const byId = id => document.getElementById(id);
const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const model = new Model();
let isPaused = false;
let isDrawn = true;

const wire = new Wire({
  message(message) {
    if (message.type === "tick") take(message);
    else if (message.type === "frames") panel.take(message);
    else if (message.type === "hello") greet(message);
  },
  state(name, text) {
    byId("state").dataset.state = name;
    put(byId("state-text"), text);
    document.body.classList.toggle("stale", name !== "live");
    if (name !== "live") panel.end("The connection to the server is lost");
  },
  token(text) {
    if (text) put(byId("ask-text"), text);
    if (!byId("ask").open) byId("ask").showModal();
  },
});
const panel = new Panel(model, wire, {
  left() {
    table.opened = null;
    table.draw();
  },
});
const table = new Table(model, {
  open(record) {
    table.opened = record.number;
    table.draw();
    panel.open(record);
  },
});
const topics = new Topics(byId("topics"));
const swatch = name => document.querySelector(`.swatch.${name}`);
const rates = new Chart(
  byId("rates"),
  [{ name: "in", swatch: swatch("in"), fill: true }, { name: "out", swatch: swatch("out") }],
  short, 10,
);
const latency = new Chart(
  byId("latency"),
  [{ name: "high", swatch: swatch("high") }, { name: "median", swatch: swatch("median"), fill: true }],
  value => (value < 1 ? "0" : span(value)), 1000,
);

// --- what comes ---

function greet({ version, python, pid, host, subprotocols, stride }) {
  model.stride = stride;
  put(byId("where"), location.host);
  byId("where").title = `lapwing ${version} on Python ${python}, process ${pid} on ${host}; subprotocols: ${subprotocols.join(", ") || "none"}`;
  document.title = `${location.host} · lapwing`;
}

function take(tick) {
  if (tick.all) {
    panel.end("The server was restarted");
    table.chosen = null;
  }
  model.take(tick);
  if (isPaused || !isDrawn) return;
  isDrawn = false;
  // A page in the background draws nothing, and one that is slow draws what it can.
  requestAnimationFrame(() => {
    isDrawn = true;
    show();
  });
}

const tiles = new Map();
function tile(title, value, note, warns = false) {
  let cells = tiles.get(title);
  if (!cells) {
    const group = document.createElement("div");
    const name = document.createElement("dt");
    name.textContent = title;
    cells = { group, value: document.createElement("dd"), note: document.createElement("dd") };
    cells.value.className = "value";
    cells.note.className = "note";
    group.append(name, cells.value, cells.note);
    byId("tiles").append(group);
    tiles.set(title, cells);
  }
  put(cells.value, value);
  put(cells.note, note);
  cells.group.classList.toggle("warns", warns);
}

function showTiles() {
  const { server, totals } = model;
  const ended = Object.entries(server.closed);
  // Failures of the connection or of an end; the codes of applications, and what an operator closed here, are neither.
  const own = code => server.operator[code] ?? 0;
  const abnormal = ended.reduce((sum, [code, times]) => sum + (FAILURES.has(code) ? Math.max(times - own(code), 0) : 0), 0);
  tile("Connections", count(server.connections), server.draining ? "draining" : `${count(server.opened)} opened`, server.draining);
  tile("Received", `${short(totals.messagesIn)} /s`, `${bytes(totals.wireIn)}/s`);
  tile("Sent", `${short(totals.messagesOut)} /s`, `${bytes(totals.wireOut)}/s`);
  tile("Unsent", bytes(server.unsent), `${bytes(server.held)} buffered`, server.unsent > 16e6);
  tile("Closed", count(ended.reduce((sum, [, times]) => sum + times, 0)), `${count(abnormal)} abnormal`);
  tile("Refused", count(server.refused), `${count(server.failed)} handshakes failed`);
  tile("Processor", `${(server.cpu * 100).toFixed(server.cpu < 0.0995 ? 1 : 0)} %`, `event loop lag ${span(model.late * 1e6)}`, model.late > 0.1);
  if (server.workers) {
    const each = server.workers.map(([, , connections]) => connections);
    tile("Workers", count(each.length), `${count(Math.min(...each))} to ${count(Math.max(...each))} connections each`);
  }
  tile("Memory", server.memory ? bytes(server.memory) : "–", `${count(server.dropped)} broadcasts dropped`, server.dropped > 0);
}

function showCharts() {
  put(byId("rate-in"), short(model.totals.messagesIn));
  put(byId("rate-out"), short(model.totals.messagesOut));
  put(byId("rtt-median"), span(model.median));
  put(byId("rtt-high"), span(model.high));
  rates.show(model.history);
  latency.show(model.history);
  byId("rates").setAttribute("aria-label", `Messages per second: ${short(model.totals.messagesIn)} received, ${short(model.totals.messagesOut)} sent`);
  byId("latency").setAttribute("aria-label", `Round trip: median ${span(model.median)}, 95 % below ${span(model.high)}`);
}

function show() {
  if (!model.server) return;
  showTiles();
  showCharts();
  topics.show(model.server.hub, model.now);
  table.arrange();
  panel.show();
}

// --- what is asked of the page ---

function setTheme(theme) {
  byId("theme").value = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("lapwing-theme", theme);
  rates.draw();
  latency.draw();
}

function setPaused(paused) {
  isPaused = paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  put(byId("pause"), paused ? "Resume" : "Pause");
  if (!paused) show();
}

const shortcuts = {
  "/": () => byId("filter").focus(),
  "?": () => byId("keys").showModal(),
  p: () => setPaused(!isPaused),
  t: () => setTheme(THEMES[(THEMES.indexOf(byId("theme").value) + 1) % THEMES.length]),
  j: () => byId("grid").focus(),
  k: () => byId("grid").focus(),
  Escape: () => panel.leave(),
};

document.addEventListener("keydown", event => {
  const field = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && event.target.type === "search" && event.target.value) {
    event.preventDefault();
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    return;
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if ((field && event.key !== "Escape") || !(event.key in shortcuts)) return;
  event.preventDefault();
  shortcuts[event.key]();
});
byId("filter").addEventListener("input", event => table.filterBy(event.target.value));
byId("filter").addEventListener("keydown", event => event.key === "ArrowDown" && byId("grid").focus());
byId("theme").addEventListener("change", event => setTheme(event.target.value));
byId("pause").addEventListener("click", () => setPaused(!isPaused));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("token-form").addEventListener("submit", event => {
  event.preventDefault();
  byId("ask").close();
  wire.useToken(byId("token").value);
  byId("token").value = "";
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  rates.draw();
  latency.draw();
});

setTheme(THEMES.includes(localStorage.getItem("lapwing-theme")) ? localStorage.getItem("lapwing-theme") : "auto");
put(byId("where"), location.host);
wire.open();
