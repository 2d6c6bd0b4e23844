// What the peers on Node.js share: ../program.py says what the words on stdin and stdout mean.
"use strict";

const TEXT = 1;
const BINARY = 2;

const pack = (data) => Buffer.from(data).toString("base64");
const unpack = (word) => (word === "-" ? null : Buffer.from(word, "base64"));
const unpackText = (word) => unpack(word)?.toString();
const unpackNames = (word) => unpackText(word).split(",").filter((name) => name);

function tell(...words) {
  process.stdout.write(words.join(" ") + "\n");
}

// Do what stdin says until it ends, by the functions of `does`.
function obey(does) {
  let unread = [];
  process.stdin.on("data", (data) => {
    let start = 0;
    for (let newline = data.indexOf(10); newline >= 0; newline = data.indexOf(10, start)) {
      const line = Buffer.concat([...unread, data.subarray(start, newline)]).toString("latin1");
      unread = [];
      start = newline + 1;
      const [what, ...words] = line.split(" ");
      does[what](...words);
    }
    unread.push(data.subarray(start));
  });
  process.stdin.on("end", () => process.exit(0));
}

module.exports = { BINARY, TEXT, obey, pack, tell, unpack, unpackNames, unpackText };
