// One connection: its numbers, its frames as they come and go, and what may be done to it.

import { age, bytes, clock, count, hex, indented, ratio, short, span } from "./format.js";
import { AT } from "./model.js";

const KEPT = 400;
// The narrowest panel in pixels, and what stays of the table; how far an arrow key moves the edge.
const NARROWEST = 340;
const LEFT_OVER = 240;
const STEP = 40;
const OPCODES = { 0: "more", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong" };
const isPing = opcode => opcode === 9 || opcode === 10;
const FACTS = [
  ["path", "Path"], ["origin", "Origin"], ["agent", "Client"], ["compression", "Extensions"], ["tls", "TLS"],
  ["local", "Local address"], ["handler", "Handler"],
];

const byId = id => document.getElementById(id);
const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const make = (tag, className, text = "") => {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
};

export class Panel {
  /** `on.left()` is called when the panel was left. */
  constructor(model, wire, on) {
    this.model = model;
    this.wire = wire;
    this.on = on;
    this.record = null;
    this.element = byId("panel");
    this.frames = byId("frames");
    this.seen = 0;
    this.pings = 0;
    this.missed = 0;
    this.held = false;
    // Whether the newest frame stays in view: until somebody scrolls away from it.
    this.follows = true;
    this.cells = new Map();
    byId("panel-close").addEventListener("click", () => this.leave());
    byId("tail-clear").addEventListener("click", () => this.clear());
    byId("tail-hold").addEventListener("click", event => this.hold(event.currentTarget));
    byId("tail-control").addEventListener("change", event => {
      this.frames.classList.toggle("with-control", event.target.checked);
      this.showCount();
    });
    byId("send").addEventListener("submit", event => this.send(event));
    byId("close").addEventListener("submit", event => this.close(event));
    byId("message").addEventListener("keydown", event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("send").requestSubmit();
    });
    this.frames.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.frames;
      this.follows = scrollHeight - scrollTop - clientHeight < 24;
    }, { passive: true });
    new ResizeObserver(() => this.follow()).observe(this.frames);
    this.frames.addEventListener("click", event => this.click(event));
    byId("tail-search").addEventListener("input", event => this.search(event.target.value));
    this.sought = "";
    this.before = null;
    this.makeEdge(byId("panel-edge"));
  }

  /** Let the edge be dragged, or moved by arrow keys; the width is kept for the next time. */
  makeEdge(edge) {
    const widen = width => {
      const widest = Math.max(innerWidth - LEFT_OVER, NARROWEST);
      const chosen = Math.round(Math.min(Math.max(width, NARROWEST), widest));
      document.documentElement.style.setProperty("--panel-width", `${chosen}px`);
      edge.setAttribute("aria-valuenow", String(chosen));
      edge.setAttribute("aria-valuemin", String(NARROWEST));
      edge.setAttribute("aria-valuemax", String(widest));
      localStorage.setItem("lapwing-panel", String(chosen));
    };
    edge.addEventListener("pointerdown", event => edge.setPointerCapture(event.pointerId));
    edge.addEventListener("pointermove", event => {
      if (edge.hasPointerCapture(event.pointerId)) widen(innerWidth - event.clientX);
    });
    edge.addEventListener("keydown", event => {
      const step = { ArrowLeft: STEP, ArrowRight: -STEP }[event.key];
      if (step) widen(this.element.offsetWidth + step);
    });
    const kept = Number(localStorage.getItem("lapwing-panel"));
    if (kept) widen(kept);
  }

  /** Show a connection, and ask for its frames. */
  async open(record) {
    if (this.record?.number === record.number && !this.ended) return byId("panel-title").focus();
    if (!this.record) this.before = document.activeElement;
    this.record = record;
    this.ended = false;
    this.element.hidden = false;
    document.body.classList.add("with-panel");
    this.clear();
    this.say("");
    put(byId("panel-title"), record.peer);
    byId("details").replaceChildren();
    this.enable(true);
    this.show();
    byId("panel-title").focus();
    try {
      await this.wire.ask("tail", { number: record.number });
      const { details } = await this.wire.ask("details", { number: record.number });
      if (this.record?.number === details.number) this.showDetails(details);
    } catch (error) {
      this.say(error.message, true);
    }
    return undefined;
  }

  leave() {
    if (!this.record) return;
    this.record = null;
    // The focus goes back to where it was, unless it is elsewhere on the page already.
    const within = this.element.contains(document.activeElement);
    this.element.hidden = true;
    if (within) (this.before?.isConnected && this.before !== document.body ? this.before : byId("grid")).focus();
    document.body.classList.remove("with-panel");
    this.wire.ask("tail", { number: null }).catch(() => {});
    this.on.left();
  }

  /** Say that the connection is over; what was seen of it stays. */
  end(text) {
    if (!this.record || this.ended) return;
    this.ended = true;
    put(byId("panel-state"), text);
    this.enable(false);
  }

  enable(able) {
    for (const control of this.element.querySelectorAll("footer button, footer input, footer textarea, footer select"))
      control.disabled = !able;
    this.element.classList.toggle("over", !able);
  }

  showDetails(details) {
    const list = byId("details");
    list.replaceChildren();
    for (const [name, title] of FACTS)
      if (details[name]) list.append(make("dt", "", title), make("dd", "", details[name]));
    if (this.record.user) list.append(make("dt", "", "User"), make("dd", "", this.record.user));
  }

  /** Show the numbers as they are now. */
  show() {
    if (!this.record || this.ended) return;
    const now = this.model.connections.get(this.record.number);
    if (!now) return this.end(`Closed after ${age(this.model.now - this.record.opened)}`);
    this.record = now;
    const { row, rates } = now;
    const at = name => (row ? row[AT[name]] : 0);
    put(byId("panel-state"), `#${this.model.name(now.number)} · ${now.subprotocol || "no subprotocol"} · open for ${age(this.model.now - now.opened)}`);
    this.number("Received", `${count(at("messagesIn"))}`, `${short(rates.messagesIn)} /s · ${bytes(rates.wireIn)}/s`);
    this.number("Sent", `${count(at("messagesOut"))}`, `${short(rates.messagesOut)} /s · ${bytes(rates.wireOut)}/s`);
    this.number("Round trip", span(row ? at("latency") : -1), "last ping");
    this.number("Queue", count(at("queued")), `${bytes(at("queuedBytes"))} queued`);
    this.number("Unsent", bytes(at("unsent")), `${bytes(at("held"))} buffered`);
    this.number("Wire ratio", `${ratio(at("wireIn"), at("payloadIn"))} · ${ratio(at("wireOut"), at("payloadOut"))}`, "in · out");
    return undefined;
  }

  number(title, value, note) {
    let cells = this.cells.get(title);
    if (!cells) {
      const group = make("div", "");
      cells = { value: make("dd", "value"), note: make("dd", "note") };
      group.append(make("dt", "", title), cells.value, cells.note);
      byId("numbers").append(group);
      this.cells.set(title, cells);
    }
    put(cells.value, value);
    put(cells.note, note);
  }

  // --- frames ---

  clear() {
    this.frames.replaceChildren();
    this.follows = true;
    this.seen = this.pings = this.missed = 0;
    this.showCount();
  }

  hold(button) {
    this.held = !this.held;
    button.setAttribute("aria-pressed", String(this.held));
    put(button, this.held ? "Resume" : "Pause");
  }

  showCount() {
    const missed = this.missed ? `, ${count(this.missed)} not shown` : "";
    const seen = this.seen - (byId("tail-control").checked ? 0 : this.pings);
    put(byId("tail-count"), seen ? `${count(seen)}${missed}` : "");
  }

  take({ number, frames, missed }) {
    if (this.record?.number !== number) return;
    this.seen += frames.length + missed;
    this.pings += frames.filter(([, , opcode]) => isPing(opcode)).length;
    this.missed += missed;
    this.showCount();
    if (this.held) return;
    const list = this.frames;
    const added = document.createDocumentFragment();
    for (const frame of frames.slice(-KEPT)) {
      const item = this.makeFrame(frame);
      if (this.sought) this.match(item);
      added.append(item);
    }
    list.append(added);
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    this.follow();
  }

  /** Open or close a frame; an open one shows JSON indented, and can be copied. */
  click(event) {
    const item = event.target.closest("li");
    if (!item || getSelection().toString()) return;
    const payload = item.querySelector(".payload");
    if (event.target.classList.contains("copy")) {
      this.copy(payload.textContent, event.target);
      return;
    }
    const opened = item.classList.toggle("open");
    item.whole ??= payload.textContent;
    payload.textContent = (opened && indented(item.whole)) || item.whole;
    if (opened && !item.querySelector(".copy")) {
      const button = make("button", "quiet copy", "Copy");
      button.type = "button";
      item.append(button);
    }
  }

  async copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      put(button, "Copied");
    } catch {
      // A browser lets pages of other hosts copy over HTTPS alone: what is selected can be copied by hand.
      getSelection().selectAllChildren(button.parentElement.querySelector(".payload"));
      put(button, "Press Ctrl+C");
    }
    setTimeout(() => put(button, "Copy"), 2000);
  }

  /** Show only the frames whose payload has this text, upper and lower case alike. */
  search(text) {
    this.sought = text.toLowerCase();
    for (const item of this.frames.children) this.match(item);
    this.showCount();
    this.follow();
  }

  match(item) {
    const text = item.whole ?? item.querySelector(".payload").textContent;
    item.hidden = !text.toLowerCase().includes(this.sought);
  }

  follow() {
    if (this.follows) this.frames.scrollTop = this.frames.scrollHeight;
  }

  makeFrame([when, sent, opcode, final, compressed, size, original, kind, shown, code]) {
    const item = make("li", sent ? "out" : "in");
    if (isPing(opcode)) item.classList.add("control");
    const arrow = make("span", "arrow", sent ? "↑" : "↓");
    arrow.setAttribute("role", "img");
    arrow.setAttribute("aria-label", sent ? "sent" : "received");
    const name = OPCODES[opcode] ?? `opcode ${opcode}`;
    const type = make("span", "type", final || opcode >= 8 ? name : `${name}…`);
    const length = make("span", "size", bytes(size) === "0" ? `0\u202fB` : bytes(size));
    if (compressed) {
      length.classList.add("compressed");
      length.title = original >= 0 ? `compressed from ${count(original)} bytes` : "compressed";
    }
    let text = kind === "b" ? hex(shown) : shown;
    if (code) text = `${code} ${text}`;
    const whole = original >= 0 ? original : size;
    const known = kind === "b" ? text.length / 3 : new TextEncoder().encode(text).length;
    if (kind && opcode !== 8 && known + 1 < whole) text += " …";
    const payload = make("span", kind === "b" ? "payload bytes" : "payload", kind || !size ? text : "not shown: a part of a compressed message");
    if (!kind && size) payload.classList.add("unknown");
    item.append(make("time", "", clock(when)), arrow, type, length, payload);
    return item;
  }

  // --- what may be done ---

  say(text, failed = false) {
    const outcome = byId("outcome");
    put(outcome, text);
    outcome.classList.toggle("failed", failed);
  }

  async send(event) {
    event.preventDefault();
    const message = byId("message");
    const written = message.value;
    try {
      const parameters = { number: this.record.number, ...this.encoded(written) };
      message.value = "";  // at once: what is typed while it is on its way is the next message
      message.focus();
      const { sent } = await this.wire.ask("send", parameters);
      this.say(`Sent ${bytes(sent) === "0" ? "an empty message" : bytes(sent)}`);
    } catch (error) {
      message.value ||= written;
      this.say(error.message, true);
    }
  }

  encoded(text) {
    if (byId("kind").value === "text") return { text };
    const digits = text.replace(/[\s:]/g, "");
    if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) throw new Error("expected bytes in hex, such as 00 ff 7a");
    const characters = (digits.match(/../g) ?? []).map(pair => String.fromCharCode(parseInt(pair, 16)));
    return { text: btoa(characters.join("")), binary: true };
  }

  async close(event) {
    event.preventDefault();
    try {
      await this.wire.ask("close", { number: this.record.number, code: Number(byId("code").value), reason: byId("reason").value });
      this.say("The closing handshake has begun");
    } catch (error) {
      this.say(error.message, true);
    }
  }
}
