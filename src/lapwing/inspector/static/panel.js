// One connection: its numbers, its frames as they come and go, and what may be done to it.

import { age, bytes, clock, count, hex, ratio, short, span } from "./format.js";
import { AT } from "./model.js";

const KEPT = 400;
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
    this.frames.addEventListener("click", event => event.target.closest("li")?.classList.toggle("open"));
  }

  /** Show a connection, and ask for its frames. */
  async open(record) {
    if (this.record?.number === record.number && !this.ended) return byId("panel-title").focus();
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
    this.element.hidden = true;
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
    put(byId("panel-state"), `#${now.number} · ${now.subprotocol || "no subprotocol"} · open for ${age(this.model.now - now.opened)}`);
    this.number("Received", `${count(at("messagesIn"))}`, `${short(rates.messagesIn)} /s · ${bytes(rates.wireIn)}/s`);
    this.number("Sent", `${count(at("messagesOut"))}`, `${short(rates.messagesOut)} /s · ${bytes(rates.wireOut)}/s`);
    this.number("Round trip", span(row ? at("latency") : -1), "last ping");
    this.number("Queue", count(at("queued")), `${bytes(at("queuedBytes"))} waiting`);
    this.number("Unsent", bytes(at("unsent")), `${bytes(at("held"))} held`);
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
    put(button, this.held ? "Go on" : "Hold");
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
    for (const frame of frames.slice(-KEPT)) added.append(this.makeFrame(frame));
    list.append(added);
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    this.follow();
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
    const payload = make("span", kind === "b" ? "payload bytes" : "payload", kind || !size ? text : "not shown: it is a part of a compressed message");
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
