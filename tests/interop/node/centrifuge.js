// The SDK `centrifuge` on Node.js: each line on stdin, [address, url, encoding], has a client driven from the address.
"use strict";

const readline = require("node:readline");
const WebSocket = require("ws");
const { drive } = require("./centrifuge_calls.js");

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [from, url, encoding] = JSON.parse(line);
  const { Centrifuge } = require(encoding === "protobuf" ? "centrifuge/build/protobuf" : "centrifuge");
  drive(WebSocket, Centrifuge, from, url, encoding, { websocket: WebSocket });
});
process.stdin.on("end", () => process.exit(0));
