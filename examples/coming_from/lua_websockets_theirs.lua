-- The same with lua-websockets, whose sync client
-- runs in a program of its own: it blocks the server.
local copas = require 'copas'
local websocket = require 'websocket'

local function echo(ws)
  while true do
    local message, opcode = ws:receive()
    if not message then
      return
    end
    ws:send(message, opcode)
  end
end

local function goodbye(ws)
  ws:send('goodbye strange client')
  ws:close()
end

local server = websocket.server.copas.listen{
  port = 8080,
  interface = 'localhost',
  protocols = { echo = echo },
  default = goodbye,
}

copas.addthread(function()
  local url = 'ws://localhost:8080'
  local client = websocket.client.copas{ timeout = 2 }
  client:connect(url, 'echo')
  client:send('hello', websocket.TEXT)
  print('copas:', client:receive())
  local was_clean, code, reason =
    client:close(4001, 'lost interest')
  print('copas:', was_clean, code, reason)

  client = websocket.client.copas{ timeout = 2 }
  client:connect(url)
  print('copas:', client:receive())
  print('copas:', client:receive())
  server:close(false)
end)

copas.loop()
