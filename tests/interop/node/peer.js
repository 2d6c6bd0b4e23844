// `ws` as a peer: told what to do, and telling what happened, in lines of JSON on stdin and stdout. Binary data is base64.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");

const servers = new Map();
const ends = new Map();
let accepted = 0;

function tell(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

function watch(end, ws) {
  ends.set(end, ws);
  ws.on("message", (data, isBinary) => {
    tell({ on: "message", end, ...(isBinary ? { binary: data.toString("base64") } : { text: data.toString() }) });
  });
  ws.on("pong", (data) => tell({ on: "pong", end, payload: data.toString("base64") }));
  ws.on("error", (error) => tell({ on: "error", end, message: String(error) }));
  ws.on("close", (code, reason) => {
    ends.delete(end);
    tell({ on: "closed", end, code, reason: reason.toString() });
  });
}

const does = {
  listen({ server, subprotocols, maxPayload, tls }) {
    const carrier = tls
      ? https.createServer({ cert: fs.readFileSync(tls.certfile), key: fs.readFileSync(tls.keyfile) })
      : http.createServer();
    const handleProtocols = (offered) => [...offered].find((name) => subprotocols.includes(name)) ?? false;
    const webSockets = new WebSocketServer({ server: carrier, handleProtocols, maxPayload, perMessageDeflate: true });
    webSockets.on("connection", (ws) => {
      const end = -++accepted;
      watch(end, ws);
      tell({ on: "accepted", server, end, subprotocol: ws.protocol || null });
    });
    servers.set(server, carrier);
    carrier.listen(0, "127.0.0.1", () => tell({ on: "listening", server, port: carrier.address().port }));
  },

  stop({ server }) {
    servers.get(server).close();
    servers.delete(server);
  },

  connect({ end, url, subprotocols, maxPayload, caFile }) {
    const ws = new WebSocket(url, subprotocols, { maxPayload, ...(caFile && { ca: fs.readFileSync(caFile) }) });
    watch(end, ws);
    ws.on("open", () => tell({ on: "open", end, subprotocol: ws.protocol || null }));
  },

  send({ end, text, binary }) {
    ends.get(end).send(text ?? Buffer.from(binary, "base64"));
  },

  fragments({ end, parts, text, ping }) {
    const ws = ends.get(end);
    parts.forEach((part, index) => {
      const fin = index === parts.length - 1;
      ws.send(Buffer.from(part, "base64"), { binary: !text, fin });
      if (ping !== null && !fin) {
        ws.ping(Buffer.from(ping, "base64"));
      }
    });
  },

  ping({ end, payload }) {
    ends.get(end).ping(Buffer.from(payload, "base64"));
  },

  close({ end, code, reason }) {
    ends.get(end)?.close(code ?? undefined, code === null ? undefined : reason);
  },

  terminate({ end }) {
    ends.get(end)?.terminate();
  },
};

let unread = [];

process.stdin.on("data", (data) => {
  let start = 0;
  for (let newline = data.indexOf(10); newline >= 0; newline = data.indexOf(10, start)) {
    const line = Buffer.concat([...unread, data.subarray(start, newline)]);
    unread = [];
    start = newline + 1;
    const command = JSON.parse(line);
    does[command.do](command);
  }
  unread.push(data.subarray(start));
});
process.stdin.on("end", () => process.exit(0));
