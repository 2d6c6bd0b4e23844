"""The atomic steps on Redis, as scripts. Each defines its result when a key was evicted, or lost alone.

Of a topic there is a stream of its messages, whose identifiers are the positions, and a key with its last position,
which outlives the messages. The stream's own last identifier takes its place where that key is lost.
"""

from __future__ import annotations

from typing import Any, Final

from .resp import Form, is_number, is_string, is_strings

__all__ = [
    "ADVANCE",
    "ALL",
    "DECLARE",
    "ENTER",
    "FORMS",
    "LEAVE",
    "OPEN",
    "PUBLISH",
    "PUBLISH_ALL",
    "READ",
    "RENEW",
    "SWEEP",
]

#: The last position; '0' where all of a topic is lost, with a position that was not given before: nodes do not think
#: that this server's clock is ahead of where it is by more than 10 ms. It differs by the microsecond, without chance.
_PREVIOUS: Final = """
local previous = redis.call('GET', KEYS[2])
if not previous then
  previous = '0'
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then previous = string.match(info[i + 1], '^%d+') end
    end
  end
end
local unused = 0
if previous == '0' then
  local now = redis.call('TIME')
  unused = math.floor((tonumber(now[1]) * 1000 + tonumber(now[2]) / 1000 + 10) * 2048)
end
"""

#: KEYS: stream, last [, key]. ARGV: payload, history, keep (s), last kept (s), channel, clock * 2048 + r, r, floor
#: [, key window (ms)]. Returns the position, and the error of PUBLISH if there was one, or 'again' for a known key.
#: The stream is written first: every error before that has stored nothing.
PUBLISH: Final = (
    """
if KEYS[3] then
  local done = redis.call('GET', KEYS[3])
  if done then return {done, 'again'} end
end
"""
    + _PREVIOUS
    + """
local position = tonumber(ARGV[6])
local least = math.max(tonumber(previous), tonumber(ARGV[8])) + 1 + tonumber(ARGV[7])
position = math.max(position, least, unused)
if position >= 9007199254740992 then return redis.error_reply('LAPWING positions beyond 2^53') end
position = string.format('%.0f', position)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], position .. '-0', 'p', previous, 'd', ARGV[1])
redis.call('SET', KEYS[2], position, 'EX', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if KEYS[3] then redis.call('SET', KEYS[3], position, 'PX', ARGV[9]) end
local sent = redis.pcall('PUBLISH', ARGV[5], position .. ' ' .. previous .. '\\n' .. ARGV[1])
if type(sent) == 'table' and sent.err then return {position, sent.err} end
return {position, ''}
"""
)

#: KEYS: stream, last. ARGV: history, keep (s), last kept (s), channel, clock * 2048, floor; then for each message r and
#: payload. The same for several messages of a topic: returns what stopped it, the error of PUBLISH if there was one,
#: and the positions of the messages that are stored.
PUBLISH_ALL: Final = (
    _PREVIOUS
    + """
local floor = math.max(tonumber(previous), tonumber(ARGV[6]))
local found = {'', ''}
for i = 7, #ARGV, 2 do
  local chance = tonumber(ARGV[i])
  local position = math.max(tonumber(ARGV[5]) + chance, floor + 1 + chance, unused)
  unused = 0
  if position >= 9007199254740992 then
    found[1] = 'LAPWING positions beyond 2^53'
    break
  end
  floor = position
  position = string.format('%.0f', position)
  local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], position .. '-0', 'p', previous, 'd', ARGV[i + 1])
  if type(added) == 'table' and added.err then
    found[1] = added.err
    break
  end
  found[#found + 1] = position
  local sent = redis.pcall('PUBLISH', ARGV[4], position .. ' ' .. previous .. '\\n' .. ARGV[i + 1])
  if type(sent) == 'table' and sent.err then found[2] = sent.err end
  previous = position
end
if #found > 2 then
  redis.call('SET', KEYS[2], previous, 'EX', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return found
"""
)

#: KEYS: stream and last of each topic. ARGV: last kept (s), and a position for each topic. Returns the last positions;
#: a topic without one gets this one. The others are kept longer, unless the server has no memory for that.
OPEN: Final = (
    """
local function last_of(KEYS)
"""
    + _PREVIOUS
    + """
  return previous, unused
end
local found = {}
for n = 1, #KEYS / 2 do
  local previous, unused = last_of({KEYS[2 * n - 1], KEYS[2 * n]})
  if previous == '0' then
    previous = string.format('%.0f', math.max(tonumber(ARGV[n + 1]), unused))
    redis.call('SET', KEYS[2 * n], previous, 'EX', ARGV[1])
  else
    local kept = redis.pcall('SET', KEYS[2 * n], previous, 'EX', ARGV[1])
    if type(kept) == 'table' and kept.err and not string.find(kept.err, 'OOM', 1, true) then return kept end
  end
  found[n] = previous
end
return found
"""
)

#: KEYS: stream, last. ARGV: a limit, a position beyond it, last kept (s). Moves a last position that is below the
#: limit, so that nobody who holds it is taken for one that has missed nothing. Returns the last position.
ADVANCE: Final = (
    _PREVIOUS
    + """
if tonumber(previous) < tonumber(ARGV[1]) then
  previous = ARGV[2]
  redis.call('SET', KEYS[2], previous, 'EX', ARGV[3])
end
return previous
"""
)

#: KEYS: stream, last. ARGV: how many, and after which position; without one the newest messages. Returns the messages,
#: the last position, and the oldest message. No transaction, which a server without memory refuses.
READ: Final = """
if not ARGV[2] then
  return {redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1]), redis.call('GET', KEYS[2])}
end
return {
  redis.call('XRANGE', KEYS[1], ARGV[2] .. '-0', '+', 'COUNT', ARGV[1]),
  redis.call('GET', KEYS[2]),
  redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
}
"""

#: KEYS: nodes, declarations of nodes, topics. ARGV: this node, lease (s), 1 if it has to be a new one, and the seconds
#: for which declarations are kept. Returns whether the lease was there still, the nodes whose lease is over, those that
#: live, and whether the declarations of this node are there. It begins with a write that takes no memory, as do ENTER,
#: SWEEP and DECLARE: a server without memory allows the writes behind it, and still knows the nodes.
RENEW: Final = """
redis.call('EXPIRE', KEYS[1], 86400)
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local mine = redis.call('ZSCORE', KEYS[1], ARGV[1])
local held = (mine and tonumber(mine) > now) and 1 or 0
if held == 1 or ARGV[3] == '1' then redis.call('ZADD', KEYS[1], string.format('%.3f', now + ARGV[2]), ARGV[1]) end
redis.call('EXPIRE', KEYS[1], 86400)
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now))
local live = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.3f', now), '+inf')
local said = redis.call('HEXISTS', KEYS[2], ARGV[1])
if redis.call('EXPIRE', KEYS[3], ARGV[4]) == 0 then said = 0 end
redis.call('EXPIRE', KEYS[2], 86400)
return {held, over, live, said}
"""

#: KEYS: the topic's clients, the node's entries. ARGV: client, value, the node's note of it, channel, report,
#: kept (s). Tells of the client if it was not there.
ENTER: Final = """
redis.call('EXPIRE', KEYS[1], ARGV[6])
local is_new = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[6])
if is_new == 1 then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return is_new
"""

#: The same keys. ARGV: client, the beginning of values of this node, the node's note of it, channel, report
#: before the entry. Tells of the client if its entry is this node's.
LEAVE: Final = """
redis.call('SREM', KEYS[2], ARGV[3])
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value or string.sub(value, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. string.sub(value, #ARGV[2] + 1))
return 1
"""

#: KEYS: the claim, nodes, a node's entries. ARGV: who claims, the node, claimed for (ms), how many. Returns some of the
#: entries of a node whose lease is over, to be left one by one; nothing where another one sweeps or the node lives.
SWEEP: Final = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local lease = redis.call('ZSCORE', KEYS[2], ARGV[2])
if lease and tonumber(lease) > now then return false end
local claim = redis.call('GET', KEYS[1])
if claim and claim ~= ARGV[1] then return false end
redis.call('EXPIRE', KEYS[2], 86400)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
local some = redis.call('SRANDMEMBER', KEYS[3], ARGV[4])
if #some == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[1], KEYS[3])
end
return some
"""

#: KEYS: topics, declarations of nodes, nodes. ARGV: this node, when it began (s), kept (s), channel of changes; then
#: pattern and declaration alternate. A declaration begins with the size of the history. Nothing is changed where
#: another node that lives declares a pattern with a history and this one without, or the other way round. Returns the
#: pattern and the declaration of that node; or '' and each pattern that was declared differently, with its declaration.
DECLARE: Final = """
redis.call('EXPIRE', KEYS[1], ARGV[3])
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local function keeps(declared) return string.match(declared, '^%d+') ~= '0' end
local own, lines = {}, {}
for i = 5, #ARGV, 2 do
  own[ARGV[i]] = ARGV[i + 1]
  lines[#lines + 1] = ARGV[i] .. '\\t' .. ARGV[i + 1] .. '\\n'
end
local of_others = {}
local nodes = redis.call('HGETALL', KEYS[2])
for i = 1, #nodes, 2 do
  local lease = redis.call('ZSCORE', KEYS[3], nodes[i])
  if not lease or tonumber(lease) <= now then
    redis.call('HDEL', KEYS[2], nodes[i])
  elseif nodes[i] ~= ARGV[1] then
    for pattern, declared in string.gmatch(nodes[i + 1], '([^\\t\\n]+)\\t([^\\t\\n]+)\\n') do
      of_others[pattern] = true
      if own[pattern] and keeps(own[pattern]) ~= keeps(declared) then return {pattern, declared} end
    end
  end
end
redis.call('HSET', KEYS[2], ARGV[1], table.concat(lines))
redis.call('EXPIRE', KEYS[2], 86400)
local differing, has_changed = {''}, false
local topics = redis.call('HGETALL', KEYS[1])
local there = {}
for i = 1, #topics, 2 do
  local began, declared = string.match(topics[i + 1], '^(%S+) (.*)$')
  local mine = own[topics[i]]
  if not mine and not of_others[topics[i]] and tonumber(began) < now - ARGV[3] then
    redis.call('HDEL', KEYS[1], topics[i])
    has_changed = true
  elseif mine and mine ~= declared then
    differing[#differing + 1] = topics[i]
    differing[#differing + 1] = declared
    there[topics[i]] = tonumber(began) > tonumber(ARGV[2])
  elseif mine then
    there[topics[i]] = tonumber(began) >= tonumber(ARGV[2])
  end
  if mine and mine ~= declared and not there[topics[i]] then has_changed = true end
end
for pattern, declared in pairs(own) do
  if there[pattern] == nil then has_changed = true end
  if not there[pattern] then redis.call('HSET', KEYS[1], pattern, ARGV[2] .. ' ' .. declared) end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
if has_changed then redis.call('PUBLISH', ARGV[4], '0 0\\n') end
return differing
"""


def _is_published(reply: Any) -> bool:
    return is_strings(reply) and len(reply) == 2


def _are_published(reply: Any) -> bool:
    return is_strings(reply) and len(reply) >= 2


def _is_lease(reply: Any) -> bool:
    return type(reply) is list and len(reply) == 4 and is_strings(reply[1]) and is_strings(reply[2])


def _is_declared(reply: Any) -> bool:
    return is_strings(reply) and (len(reply) == 2 if reply and reply[0] else len(reply) % 2 == 1)


def _is_read(reply: Any) -> bool:
    return (
        type(reply) is list
        and len(reply) in (2, 3)
        and type(reply[0]) is list
        and (reply[1] is None or is_string(reply[1]))
        and all(type(each) is list for each in reply[2:])
    )


def _is_swept(reply: Any) -> bool:
    return reply is None or is_strings(reply)


#: The scripts that each new link loads into its server, with the forms of their replies.
FORMS: Final[dict[str, Form]] = {
    PUBLISH: _is_published,
    PUBLISH_ALL: _are_published,
    OPEN: is_strings,
    ADVANCE: is_string,
    READ: _is_read,
    RENEW: _is_lease,
    ENTER: is_number,
    LEAVE: is_number,
    SWEEP: _is_swept,
    DECLARE: _is_declared,
}
ALL: Final = tuple(FORMS)
