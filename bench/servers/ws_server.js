// Echo server of ws on Node.js, as in its README. Its per-message compression is off unless asked for.
'use strict';

const fs = require('fs');
const http = require('http');
const https = require('https');
const { parseArgs } = require('util');
const { WebSocket, WebSocketServer } = require('../node/node_modules/ws');

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    broadcast: { type: 'boolean' },
    compress: { type: 'boolean' },
    certificate: { type: 'string' },
    key: { type: 'string' },
  },
});

const server = options.certificate
  ? https.createServer({ cert: fs.readFileSync(options.certificate), key: fs.readFileSync(options.key) })
  : http.createServer();
const wss = new WebSocketServer({ server, perMessageDeflate: Boolean(options.compress) });

wss.on('connection', (ws) => {
  ws.on('error', console.error);
  ws.on('message', (data, binary) => {
    if (!options.broadcast) {
      ws.send(data, { binary });
      return;
    }
    for (const client of wss.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
});

server.listen(Number(options.port), '127.0.0.1', () => console.log(server.address().port));
