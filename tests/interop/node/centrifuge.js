// The SDK `centrifuge` on Node.js. Each line on stdin is a call, [number, method, ...arguments] in JSON; each line on
// stdout is [number, error, result] of a call, or [null, name, value] of an event. ../sdks.py says what they mean.
"use strict";

const readline = require("node:readline");
const WebSocket = require("ws");

const [url, encoding] = process.argv.slice(2);
const isBinary = encoding === "protobuf";
const { Centrifuge } = require(isBinary ? "centrifuge/build/protobuf" : "centrifuge");

const say = (...words) => process.stdout.write(`${JSON.stringify(words)}\n`);
const tell = (name, value) => say(null, name, value);
const encode = (value) => (isBinary ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decode = (value) => (isBinary ? value?.length ? JSON.parse(new TextDecoder().decode(value)) : null : value);

let client;

const infoOf = ({ user, client: id, connInfo }) => ({ user, client: id, info: decode(connInfo) });
const publicationOf = ({ data, offset, info }) => ({ data: decode(data), offset, user: info?.user ?? null });

function watch(subscription) {
  const topic = subscription.channel;
  subscription.on("subscribing", ({ code }) => tell("subscribing", { topic, code }));
  subscription.on("subscribed", ({ wasRecovering, recovered, data }) => {
    tell("subscribed", { topic, wasRecovering, recovered, data: decode(data) });
  });
  subscription.on("unsubscribed", ({ code, reason }) => tell("unsubscribed", { topic, code, reason }));
  subscription.on("publication", (publication) => tell("publication", { topic, ...publicationOf(publication) }));
  subscription.on("join", ({ info }) => tell("join", { topic, ...infoOf(info) }));
  subscription.on("leave", ({ info }) => tell("leave", { topic, ...infoOf(info) }));
  subscription.on("error", ({ error }) => tell("error", { topic, code: error.code }));
}

const calls = {
  connect(tokens, data) {
    const getToken = async () => {
      tell("token", tokens.length);
      return tokens.shift();
    };
    client = new Centrifuge(url, {
      websocket: WebSocket,
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      timeout: 15_000,
      ...(tokens.length ? { getToken } : {}),
      ...(data === null ? {} : { data: encode(data) }),
    });
    client.on("connecting", ({ code }) => tell("connecting", { code }));
    client.on("connected", ({ data: said }) => tell("connected", { data: decode(said) }));
    client.on("disconnected", ({ code, reason }) => tell("disconnected", { code, reason }));
    client.on("error", ({ error }) => tell("error", { code: error.code }));
    client.connect();
  },
  disconnect: () => client.disconnect(),
  subscribe(topic, options) {
    const minResubscribeDelay = 20;
    const subscription = client.newSubscription(topic, { minResubscribeDelay, maxResubscribeDelay: 200, ...options });
    watch(subscription);
    subscription.subscribe();
  },
  unsubscribe: (topic) => client.getSubscription(topic).unsubscribe(),
  async publish(topic, data) {
    await client.publish(topic, encode(data));
  },
  async presence(topic) {
    return Object.values((await client.presence(topic)).clients).map(infoOf);
  },
  presenceStats: (topic) => client.presenceStats(topic),
  async history(topic, limit, reverse) {
    const { publications, offset, epoch } = await client.history(topic, { limit, reverse });
    return { publications: publications.map(publicationOf), offset, epoch };
  },
  async rpc(method, data) {
    return decode((await client.rpc(method, encode(data))).data);
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [number, method, ...words] = JSON.parse(line);
  try {
    say(number, null, (await calls[method](...words)) ?? null);
  } catch (error) {
    say(number, error.code ?? String(error), null);
  }
});
process.stdin.on("end", () => process.exit(0));
