// undici, the WebSocket that Node.js itself has from version 22 on, as a client; ../program.py says what the words mean.
// It has the interface of browsers: no fragments, no pings of its own.
"use strict";

const { WebSocket } = require("undici");
const { BINARY, TEXT, obey, pack, tell, unpack, unpackNames, unpackText } = require("./words.js");

const ends = new Map();

obey({
  connect(end, _limit, _authority, subprotocols, url) {
    const ws = new WebSocket(unpackText(url), unpackNames(subprotocols));
    ws.binaryType = "arraybuffer";
    ends.set(end, ws);
    ws.addEventListener("open", () => tell("end", end, "open", ws.protocol ? pack(ws.protocol) : "-"));
    ws.addEventListener("error", (event) => tell("end", end, "error", pack(String(event.error ?? event.message))));
    ws.addEventListener("message", ({ data }) => {
      tell("end", end, "message", typeof data === "string" ? TEXT : BINARY, pack(data));
    });
    ws.addEventListener("close", ({ code, reason }) => {
      ends.delete(end);
      tell("end", end, "closed", code, pack(reason));
    });
  },

  send(end, opcode, payload) {
    ends.get(end).send(Number(opcode) === BINARY ? unpack(payload) : unpackText(payload));
  },

  close(end, code, reason) {
    ends.get(end)?.close(...(code === "-" ? [] : [Number(code), unpackText(reason)]));
  },

  terminate(end) {
    ends.get(end)?.close();
  },
});
