// A client with the SDK `centrifuge` that is driven over a WebSocket, in a program for Node.js as on a page. Each message
// that comes on it is a call, [number, method, ...arguments] in JSON; each one that is sent is [number, error, result]
// of a call, or [null, name, value] of an event. ../sdks.py says what they mean.
"use strict";

function callsOf(Centrifuge, url, encoding, options, sayLine) {
  const isBinary = encoding === "protobuf";
  const say = (...words) => sayLine(JSON.stringify(words));
  const tell = (name, value) => say(null, name, value);
  const encode = (value) => (isBinary ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const decode = (value) => (isBinary ? value?.length ? JSON.parse(new TextDecoder().decode(value)) : null : value);

  let client;

  const infoOf = ({ user, client: id, connInfo }) => ({ user, client: id, info: decode(connInfo) });
  const publicationOf = ({ data, offset, info }) => ({ data: decode(data), offset, user: info?.user ?? null });
  const oneByOne = (tokens, name) => async () => {
    tell(name, tokens.length);
    return tokens.shift();
  };

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
      client = new Centrifuge(url, {
        minReconnectDelay: 20,
        maxReconnectDelay: 200,
        timeout: 15_000,
        ...(tokens.length ? { getToken: oneByOne(tokens, "token") } : {}),
        ...(data === null ? {} : { data: encode(data) }),
        ...options,
      });
      client.on("connecting", ({ code }) => tell("connecting", { code }));
      client.on("connected", ({ data: said }) => tell("connected", { data: decode(said) }));
      client.on("disconnected", ({ code, reason }) => tell("disconnected", { code, reason }));
      client.on("error", ({ error }) => tell("error", { code: error.code }));
      client.connect();
    },
    disconnect: () => client.disconnect(),
    subscribe(topic, { tokens, ...more }) {
      const subscription = client.newSubscription(topic, {
        minResubscribeDelay: 20,
        maxResubscribeDelay: 200,
        ...(tokens ? { getToken: oneByOne(tokens, "topic token") } : {}),
        ...more,
      });
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

  return async (line) => {
    const [number, method, ...words] = JSON.parse(line);
    try {
      say(number, null, (await calls[method](...words)) ?? null);
    } catch (error) {
      say(number, error.code ?? String(error), null);
    }
  };
}

// Have a client driven from this address: it ends with the connection.
function drive(WebSocket, Centrifuge, from, url, encoding, options) {
  const ws = new WebSocket(from);
  const call = callsOf(Centrifuge, url, encoding, options, (line) => ws.send(line));
  ws.onmessage = ({ data }) => call(data);
  ws.onclose = () => call('[0, "disconnect"]');
}

if (typeof module !== "undefined") module.exports = { drive };
