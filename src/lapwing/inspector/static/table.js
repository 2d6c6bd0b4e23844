// The table of connections: as many rows as fit are there, whatever the number of connections.

import { age, bytes, count, ratio, short, span } from "./format.js";
import { AT } from "./model.js";

const at = (record, name) => (record.row ? record.row[AT[name]] : 0);
const rateOf = (wire, payload, record) => (at(record, payload) ? at(record, wire) / at(record, payload) : 0);

/** Each column: what it says, how it sorts (descending unless `up`), and what its heading is. */
const COLUMNS = [
  { id: "number", title: "#", value: r => r.number, text: (r, now, model) => model.name(r.number), up: true },
  { id: "peer", title: "Peer", value: r => r.peer, text: r => r.peer, up: true },
  { id: "path", title: "Path", hint: "The path that the client asked for, without its secrets", value: r => r.path, text: r => r.path || "–", up: true },
  { id: "user", title: "User", hint: "The user that on_request named", value: r => r.user, text: r => r.user || "–", up: true },
  { id: "subprotocol", title: "Subprotocol", value: r => r.subprotocol, text: r => r.subprotocol || "–", up: true },
  { id: "age", title: "Age", value: r => -r.opened, text: (r, now) => age(now - r.opened) },
  { id: "in", title: "In /s", hint: "Messages received per second", value: r => r.rates.messagesIn, text: r => short(r.rates.messagesIn) },
  { id: "out", title: "Out /s", hint: "Messages sent per second", value: r => r.rates.messagesOut, text: r => short(r.rates.messagesOut) },
  { id: "bytes-in", title: "In B/s", hint: "Bytes received per second", value: r => r.rates.wireIn, text: r => bytes(r.rates.wireIn) },
  { id: "bytes-out", title: "Out B/s", hint: "Bytes sent per second", value: r => r.rates.wireOut, text: r => bytes(r.rates.wireOut) },
  { id: "rtt", title: "RTT", hint: "The last round trip of a ping", value: r => at(r, "latency"), text: r => span(r.row ? at(r, "latency") : -1) },
  { id: "queue", title: "Queue", hint: "Received messages that the handler has not taken yet", value: r => at(r, "queued"), text: r => count(at(r, "queued")) },
  { id: "unsent", title: "Unsent", hint: "Bytes that the peer has not taken yet", value: r => at(r, "unsent"), text: r => bytes(at(r, "unsent")) },
  { id: "held", title: "Buffers", hint: "Bytes of all buffers of the connection", value: r => at(r, "held"), text: r => bytes(at(r, "held")) },
  {
    id: "ratio", title: "Ratio in · out", hint: "Bytes on the wire per byte of payload: below 1 where compression pays off",
    value: r => rateOf("wireIn", "payloadIn", r),
    text: r => `${ratio(at(r, "wireIn"), at(r, "payloadIn"))} · ${ratio(at(r, "wireOut"), at(r, "payloadOut"))}`,
  },
];
const SPARE = 4;

const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

export class Table {
  /** `on.open(record)` is called for the row that is chosen. */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.grid = document.getElementById("grid");
    this.scroller = document.getElementById("scroller");
    this.body = document.getElementById("rows");
    this.head = document.getElementById("columns");
    this.order = [];
    this.pool = [];
    this.column = COLUMNS[0];
    this.up = true;
    this.filter = "";
    this.chosen = null;
    this.opened = null;
    this.makeHead();
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.body.addEventListener("click", event => this.click(event));
    this.grid.addEventListener("keydown", event => this.key(event));
    this.grid.addEventListener("focus", () => this.chosen === null && this.choose(0));
  }

  makeHead() {
    this.head.setAttribute("aria-rowindex", "1");
    const select = document.getElementById("sort");
    for (const column of COLUMNS) {
      const cell = document.createElement("div");
      cell.className = `cell ${column.id}`;
      cell.setAttribute("role", "columnheader");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      button.tabIndex = -1;
      if (column.hint) button.title = column.hint;
      button.addEventListener("click", () => this.sortBy(column, this.column === column ? !this.up : Boolean(column.up)));
      cell.append(button);
      this.head.append(cell);
      column.cell = cell;
      const option = document.createElement("option");
      option.value = column.id;
      option.textContent = column.id === "number" ? "Number" : column.title;
      select.append(option);
    }
    select.addEventListener("change", () => {
      const column = COLUMNS.find(each => each.id === select.value);
      this.sortBy(column, Boolean(column.up));
    });
    this.sortBy(this.column, true);
  }

  sortBy(column, up) {
    this.column = column;
    this.up = up;
    document.getElementById("sort").value = column.id;
    for (const each of COLUMNS)
      each.cell.setAttribute("aria-sort", each !== column ? "none" : up ? "ascending" : "descending");
    this.arrange();
  }

  filterBy(text) {
    this.filter = text.trim().toLowerCase();
    this.arrange();
  }

  /** Put the connections in order, and draw. */
  arrange() {
    const words = this.filter.split(/\s+/).filter(Boolean);
    const { value } = this.column;
    const sign = this.up ? 1 : -1;
    const all = [...this.model.connections.values()];
    this.order = words.length ? all.filter(record => words.every(word => record.text.includes(word))) : all;
    for (const record of this.order) record.key = value(record);
    this.order.sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : a.number - b.number));
    const total = this.model.connections.size;
    const shown = this.order.length === total ? count(total) : `${count(this.order.length)} of ${count(total)}`;
    put(document.getElementById("count"), total || this.model.known ? shown : "");
    const nothing = document.getElementById("nothing");
    nothing.hidden = this.order.length > 0;
    put(nothing, total ? "No connection fits the filter." : this.model.known ? "No connection is open." : "Waiting for the server.");
    this.draw();
  }

  get rowHeight() {
    return parseFloat(getComputedStyle(this.grid).getPropertyValue("--row")) || 34;
  }

  /** Draw the rows in view, into elements that are used again. */
  draw() {
    const height = this.rowHeight;
    const from = Math.max(0, Math.floor(this.scroller.scrollTop / height) - SPARE);
    const fitting = Math.ceil(this.scroller.clientHeight / height) + 2 * SPARE;
    const upTo = Math.min(this.order.length, from + fitting);
    this.body.style.height = `${this.order.length * height}px`;
    this.grid.setAttribute("aria-rowcount", String(this.order.length + 1));
    while (this.pool.length < upTo - from) this.pool.push(this.makeRow());
    this.pool.forEach((row, index) => {
      const record = this.order[from + index];
      row.element.hidden = index >= upTo - from;
      if (!row.element.hidden) this.fill(row, record, from + index, height);
    });
    this.markActive();
  }

  makeRow() {
    const element = document.createElement("div");
    element.className = "row";
    element.setAttribute("role", "row");
    const cells = COLUMNS.map(column => {
      const cell = document.createElement("div");
      cell.className = `cell ${column.id}`;
      cell.setAttribute("role", "gridcell");
      element.append(cell);
      return cell;
    });
    this.body.append(element);
    return { element, cells, record: null };
  }

  fill(row, record, index, height) {
    row.record = record;
    const { element } = row;
    element.id = `connection-${record.number}`;
    element.style.transform = `translateY(${index * height}px)`;
    element.setAttribute("aria-rowindex", String(index + 2));
    element.setAttribute("aria-selected", String(record.number === this.chosen));
    element.classList.toggle("opened", record.number === this.opened);
    COLUMNS.forEach((column, place) => put(row.cells[place], column.text(record, this.model.now, this.model)));
    element.classList.toggle("peer-lags", at(record, "unsent") > 65536);
    element.classList.toggle("handler-lags", at(record, "queued") > 100);
  }

  markActive() {
    const there = this.pool.some(row => !row.element.hidden && row.record.number === this.chosen);
    if (there) this.grid.setAttribute("aria-activedescendant", `connection-${this.chosen}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  /** Choose the row at a place, and see to it that it is in view. */
  choose(index) {
    if (!this.order.length) return;
    const place = Math.min(Math.max(index, 0), this.order.length - 1);
    this.chosen = this.order[place].number;
    const height = this.rowHeight;
    const top = place * height;
    const room = this.scroller.clientHeight - this.head.offsetHeight;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + height > this.scroller.scrollTop + room) this.scroller.scrollTop = top + height - room;
    this.draw();
  }

  click(event) {
    const row = this.pool.find(each => each.element === event.target.closest(".row"));
    if (!row) return;
    this.chosen = row.record.number;
    this.draw();
    this.on.open(row.record);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.order.findIndex(record => record.number === this.chosen);
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight) - 2);
    const moves = {
      ArrowDown: place + 1, j: place + 1, ArrowUp: place - 1, k: place - 1, PageDown: place + page, PageUp: place - page,
      Home: 0, End: this.order.length - 1,
    };
    if (event.key in moves) this.choose(moves[event.key]);
    else if (event.key === "Enter" && place >= 0) this.on.open(this.order[place]);
    else return;
    event.preventDefault();
  }
}
