// socket.io-client on Node.js: joins a room, says a text and some bytes there, and prints a line for each thing that comes.
"use strict";

const { io } = require("socket.io-client");

const [url, ...transports] = process.argv.slice(2);
const socket = io(url, { transports, reconnection: false });
const print = (...words) => process.stdout.write(`${JSON.stringify(words)}\n`);

async function talk() {
  print("acknowledged", await socket.emitWithAck("join", "kitchen", "ada"));
  socket.emit("say", "kitchen", "hello");
  socket.emit("say", "kitchen", Buffer.from([0, 1, 255]));
}

socket.on("connect", () => {
  const { engine } = socket.io;
  if (engine.transport.name === "websocket") {
    talk();
  } else {
    engine.once("upgrade", talk);
  }
});
socket.on("connect_error", (error) => {
  print("error", error.message);
  process.exit(1);
});
socket.on("said", (name, what) => {
  if (typeof what === "string") {
    print("said", name, what);
    return;
  }
  print("said", name, [...what]);
  print("carried by", socket.io.engine.transport.name);
  socket.disconnect();
});
