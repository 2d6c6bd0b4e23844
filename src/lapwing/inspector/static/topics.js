// The topics of the hub: a row for each pattern, and one for each of the topics with the most subscriptions.

import { count, short } from "./format.js";

const COLUMNS = ["Topic", "Topics", "Subscriptions", "Behind", "Messages /s", "Repairs", "Losses"];
// How much of a new rate counts, as in the model.
const WEIGHT = 0.5;

/** The rates of rows that are known by their names. */
class Rates {
  constructor() {
    this.known = new Map();
  }

  /** Take the rows of a tick, with the names first and the messages at `place`; returns messages per second by name. */
  take(rows, place, seconds) {
    const known = new Map();
    for (const row of rows) {
      const before = this.known.get(row[0]);
      // A process that was replaced counts anew.
      const difference = before ? Math.max(row[place] - before.messages, 0) : 0;
      const rate = (before?.rate ?? 0) * (1 - WEIGHT) + WEIGHT * (difference / seconds);
      known.set(row[0], { messages: row[place], rate: rate < 0.05 ? 0 : rate });
    }
    this.known = known;
    return name => known.get(name)?.rate ?? 0;
  }
}

export class Topics {
  constructor(element) {
    this.element = element;
    this.find = name => element.querySelector(`#topics-${name}`);
    for (const title of COLUMNS) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      this.find("columns").append(cell);
    }
    this.ofPatterns = new Rates();
    this.ofNames = new Rates();
    this.now = 0;
  }

  /** Show what the server says of its hub; null where it has none. */
  show(hub, now) {
    this.element.hidden = !hub;
    if (!hub) return;
    const seconds = Math.max(now - this.now, 0.05);
    this.now = now;
    const patternRate = this.ofPatterns.take(hub.patterns, 4, seconds);
    const nameRate = this.ofNames.take(hub.topics, 3, seconds);
    const total = hub.patterns.reduce((sum, row) => sum + row[1], 0);
    const more = total > hub.topics.length ? `, the ${count(hub.topics.length)} with the most subscriptions below` : "";
    this.find("count").textContent = `${count(total)}${more}${hub.up ? "" : " · the link to the broker is down"}`;
    this.element.classList.toggle("warns", !hub.up);
    fill(this.find("patterns"), hub.patterns.map(([name, topics, subscriptions, behind, , repairs, losses]) =>
      [name, count(topics), count(subscriptions), count(behind), short(patternRate(name)), count(repairs), count(losses)]));
    fill(this.find("names"), hub.topics.map(([name, subscriptions, behind]) =>
      [name, "", count(subscriptions), count(behind), short(nameRate(name)), "", ""]));
  }
}

/** Make the rows of a part of the table say this; rows and cells that are there are used again. */
function fill(part, rows) {
  while (part.rows.length > rows.length) part.deleteRow(-1);
  rows.forEach((texts, place) => {
    const row = part.rows[place] ?? part.insertRow();
    texts.forEach((text, column) => {
      let cell = row.cells[column];
      if (!cell) {
        cell = document.createElement(column ? "td" : "th");
        if (!column) cell.scope = "row";
        row.append(cell);
      }
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}
