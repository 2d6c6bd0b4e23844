// `ws` as a peer; ../program.py says what the words on stdin and stdout mean.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");
const { BINARY, TEXT, obey, pack, tell, unpack, unpackNames, unpackText } = require("./words.js");

const servers = new Map();
const ends = new Map();
let accepted = 0;

function watch(end, ws) {
  ends.set(end, ws);
  ws.on("message", (data, isBinary) => tell("end", end, "message", isBinary ? BINARY : TEXT, pack(data)));
  ws.on("pong", (data) => tell("end", end, "pong", pack(data)));
  ws.on("error", (error) => tell("end", end, "error", pack(String(error))));
  ws.on("close", (code, reason) => {
    ends.delete(end);
    tell("end", end, "closed", code, pack(reason));
  });
}

function agreed(ws) {
  return ws.protocol ? pack(ws.protocol) : "-";
}

const does = {
  listen(server, limit, certificate, key, subprotocols) {
    const carrier =
      certificate === "-"
        ? http.createServer()
        : https.createServer({ cert: fs.readFileSync(unpackText(certificate)), key: fs.readFileSync(unpackText(key)) });
    const known = unpackNames(subprotocols);
    const handleProtocols = (offered) => [...offered].find((name) => known.includes(name)) ?? false;
    const maxPayload = Number(limit);
    const webSockets = new WebSocketServer({ server: carrier, handleProtocols, maxPayload, perMessageDeflate: true });
    webSockets.on("connection", (ws) => {
      const end = String(--accepted);
      watch(end, ws);
      tell("server", server, "accepted", end, agreed(ws));
    });
    servers.set(server, carrier);
    carrier.listen(0, "127.0.0.1", () => tell("server", server, "listening", carrier.address().port));
  },

  stop(server) {
    servers.get(server).close();
    servers.delete(server);
  },

  connect(end, limit, authority, subprotocols, url) {
    const ca = authority === "-" ? undefined : fs.readFileSync(unpackText(authority));
    const ws = new WebSocket(unpackText(url), unpackNames(subprotocols), { maxPayload: Number(limit), ca });
    watch(end, ws);
    ws.on("open", () => tell("end", end, "open", agreed(ws)));
  },

  send(end, opcode, payload) {
    ends.get(end).send(unpack(payload), { binary: Number(opcode) === BINARY });
  },

  fragment(end, opcode, fin, payload) {
    // The opcode of a later fragment is that of a continuation frame, whatever `binary` says.
    ends.get(end).send(unpack(payload), { binary: Number(opcode) === BINARY, fin: fin === "1" });
  },

  ping(end, payload) {
    ends.get(end).ping(unpack(payload));
  },

  close(end, code, reason) {
    ends.get(end)?.close(code === "-" ? undefined : Number(code), code === "-" ? undefined : unpackText(reason));
  },

  terminate(end) {
    ends.get(end)?.terminate();
  },
};

obey(does);
