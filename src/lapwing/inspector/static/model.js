// What is known of the server: one record per connection, rates from the differences of counters, a short history.

/** Where each counter stands in a row of the server's, behind the number of the connection. */
export const AT = {
  messagesIn: 1, messagesOut: 2, wireIn: 3, wireOut: 4, payloadIn: 5, payloadOut: 6,
  queued: 7, queuedBytes: 8, unsent: 9, held: 10, dropped: 11, latency: 12,
};
const HISTORY = 240;
// How much of a new rate counts: the rest is the one before, which calms the digits.
const WEIGHT = 0.5;
const RATES = ["messagesIn", "messagesOut", "wireIn", "wireOut"];

class Rates {
  constructor() {
    for (const name of RATES) this[name] = 0;
  }

  add(name, difference, seconds) {
    const rate = this[name] + WEIGHT * (difference / seconds - this[name]);
    this[name] = rate < 0.05 ? 0 : rate;
  }
}

export class Model {
  constructor() {
    this.connections = new Map();
    this.history = [];
    this.totals = new Rates();
    this.server = null;
    this.now = 0;
    this.late = 0;
    this.median = this.high = -1;
    this.known = false;
    this.stride = null;
  }

  /** What a connection is called: of several workers, each counts its own. */
  name(number) {
    return this.stride ? `${number % this.stride}·${Math.floor(number / this.stride)}` : String(number);
  }

  /** Take what the server says has changed. */
  take(tick) {
    const seconds = Math.max(tick.now - this.now, 0.05);
    if (tick.all) {
      this.connections.clear();
      this.known = false;
    }
    for (const [number, peer, subprotocol, opened, thread, user, path] of tick.opened)
      this.connections.set(number, {
        number, peer, subprotocol, opened, thread: Boolean(thread), user, path, row: null, fresh: null, rates: new Rates(),
        text: `${peer} ${subprotocol} ${user} ${path} ${this.name(number)}`.toLowerCase(),
      });
    for (const row of tick.changed) {
      const record = this.connections.get(row[0]);
      if (record) record.fresh = row;
    }
    for (const number of tick.gone) this.connections.delete(number);
    this.advance(seconds);
    this.count(tick.server, seconds);
    this.now = tick.now;
    this.late = tick.late;
    this.known = true;
    this.remember();
  }

  /** One pass over all connections: their rates, and how their round trips are spread. */
  advance(seconds) {
    const latencies = new Float64Array(this.connections.size);
    let known = 0;
    for (const record of this.connections.values()) {
      const { row, fresh } = record;
      for (const name of RATES)
        record.rates.add(name, row && fresh ? fresh[AT[name]] - row[AT[name]] : 0, seconds);
      if (fresh) record.row = fresh;
      record.fresh = null;
      if (record.row && record.row[AT.latency] >= 0) latencies[known++] = record.row[AT.latency];
    }
    const sorted = latencies.subarray(0, known).sort();
    const at = share => (known ? sorted[Math.min(known - 1, Math.floor(known * share))] : -1);
    this.median = at(0.5);
    this.high = at(0.95);
  }

  count(server, seconds) {
    const before = this.server;
    this.server = server;
    // The totals of other workers are no difference to those before.
    const workers = ({ workers = [] }) => workers.map(([number, pid]) => `${number}:${pid}`).join();
    if (!before || !this.known || workers(server) !== workers(before)) return;
    const rate = (name, kind, direction) =>
      this.totals.add(name, Math.max(server[kind][direction] - before[kind][direction], 0), seconds);
    rate("messagesIn", "messages", 0);
    rate("messagesOut", "messages", 1);
    rate("wireIn", "wire", 0);
    rate("wireOut", "wire", 1);
  }

  remember() {
    this.history.push({
      at: this.now, in: this.totals.messagesIn, out: this.totals.messagesOut, median: this.median, high: this.high,
    });
    if (this.history.length > HISTORY) this.history.shift();
  }
}
