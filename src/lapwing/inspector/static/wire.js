// The page's WebSocket: opened with a token where there is one, and again whenever it ends.

const SUBPROTOCOL = "lapwing.inspector.2";
const KEY = "lapwing-token";
const FIRST_DELAY = 500;
const LONGEST_DELAY = 5000;

/** The token in the address, kept for this tab and taken out of what is shown there. */
function fromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem(KEY, found);
    history.replaceState(null, "", location.pathname);
  }
}

function asSubprotocol(token) {
  const binary = String.fromCharCode(...new TextEncoder().encode(token));
  return "lapwing.token." + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export class Wire {
  /** `on` has: message(object), state(name, text), token(text), called as things happen. */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.delay = FIRST_DELAY;
    this.requests = 0;
    this.waiting = new Map();
    fromAddress();
  }

  useToken(token) {
    sessionStorage.setItem(KEY, token);
    this.open();
  }

  /** Ask whether this page may watch, which a WebSocket would not tell, and open the WebSocket. */
  async open() {
    const token = sessionStorage.getItem(KEY);
    let answer;
    try {
      answer = await fetch("session", { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
    } catch {
      return this.later();
    }
    if (answer.status === 401) {
      this.on.state("closed", "Token needed");
      return this.on.token(token ? "This token is not the server's." : "");
    }
    if (answer.status === 403) {
      return this.on.state("closed", (await answer.text()).trim());
    }
    if (!answer.ok) return this.later();
    const url = new URL("live", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    const socket = new WebSocket(url, token ? [SUBPROTOCOL, asSubprotocol(token)] : [SUBPROTOCOL]);
    this.socket = socket;
    socket.onopen = () => {
      this.delay = FIRST_DELAY;
      this.on.state("live", "Live");
    };
    socket.onmessage = event => this.take(JSON.parse(event.data));
    socket.onclose = () => {
      this.socket = null;
      for (const { fail } of this.waiting.values()) fail(new Error("the connection to the server was lost"));
      this.waiting.clear();
      this.later();
    };
  }

  later() {
    this.on.state("waiting", "Reconnecting");
    setTimeout(() => this.open(), this.delay);
    this.delay = Math.min(this.delay * 1.6, LONGEST_DELAY);
  }

  take(message) {
    if (message.type !== "answer") return this.on.message(message);
    const waiting = this.waiting.get(message.request);
    this.waiting.delete(message.request);
    if (!waiting) return undefined;
    return message.error ? waiting.fail(new Error(message.error)) : waiting.done(message);
  }

  /** Ask the server for something; the promise fails with what it says is wrong. */
  ask(what, parameters) {
    return new Promise((done, fail) => {
      if (!this.socket || this.socket.readyState !== WebSocket.OPEN) {
        fail(new Error("there is no connection to the server"));
        return;
      }
      const request = ++this.requests;
      this.waiting.set(request, { done, fail });
      this.socket.send(JSON.stringify({ do: what, request, ...parameters }));
    });
  }
}
