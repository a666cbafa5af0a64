-- Append events for many agents of one partition: each append whole or not at all, answered on its own.
--
-- KEYS  1 heads      HASH    agent -> msgpack [head, base, digest, fence, claimed_at, updated_at]   for ever
--       2 directory  HASH    agent -> msgpack [status, agent type, session id]                      for ever
--       3 feed       LIST    msgpack [agent, first seq, count, levels], one entry an append         for ever
--       4 marks      HASH    level -> last feed position with an event of it; base                  for ever
--       5...         LIST    the log of each append's agent, in the order of the batch              for ever
--       then         STRING  snapshots and checkpoints to put, in the order of the batch            their TTL
-- ARGV  1 batch      msgpack [[agent, expected, previous, fence, items, levels, updated_at, create, entry|false, puts], ...]
--                    puts = [[value, ttl in ms or 0], ...]
--       2 command    PUBLISH, or SPUBLISH in a cluster
--       3 limit      bytes of events above which a notice carries positions only
--       4... channel of level 1, 2, 3, 4
-- Returns msgpack [answers, lost]: an answer is 0 (committed) or [status, head, fence, claimed_at];
-- lost counts notices that the server refused to publish (the events are committed all the same).

local COMMITTED, DUPLICATE, FENCED, CONFLICT, BEHIND, GONE, CORRUPT, EXISTS = 0, 1, 2, 3, 4, 5, 6, 7

-- How many events the list holds; -1 if it is none. One agent's damage must not fail the others of its batch.
local function length_of(log)
  local length = redis.pcall('LLEN', log)
  if type(length) == 'number' then return length end
  if string.find(length.err, 'WRONGTYPE', 1, true) then return -1 end
  return redis.call('LLEN', log)
end

-- The head as it was packed; nil if it is none.
local function head_of(stored)
  local sound, head = pcall(cmsgpack.unpack, stored)
  if not sound or type(head) ~= 'table' then return nil end
  local numbers = type(head[1]) == 'number' and type(head[2]) == 'number' and type(head[5]) == 'number'
  if numbers and type(head[3]) == 'string' and type(head[4]) == 'string' and #head == 6 then return head end
  return nil
end

-- Whether the log has, at `seq`, the event that ends this append: its digest vouches for all before it.
local function holds(log, head, seq, items)
  if #items == 0 or seq <= head[2] or seq > head[1] or length_of(log) < 0 then return false end
  local at = seq - head[2] - 1
  local found = redis.call('LRANGE', log, at, at)[1]
  return found ~= nil and string.sub(found, 1, 16) == string.sub(items[#items], 1, 16)
end

local function check(append, head, log)
  local expected, items = append[2], append[5]
  local last = expected + #items
  if not head then
    -- A log that is gone is never created again by who remembers it.
    if not append[8] then return GONE end
    if length_of(log) ~= 0 then return CORRUPT end
    return COMMITTED
  end
  if head[4] ~= append[4] then
    -- Fenced; but the append may have come through before the other's claim, and only its reply was lost.
    if holds(log, head, last, items) then return DUPLICATE end
    if append[8] then return EXISTS end
    return FENCED
  end
  if head[1] == expected and not append[8] then
    if head[3] ~= append[3] then return CORRUPT end
    local length = length_of(log)
    if length < 0 or head[2] + length ~= head[1] then return CORRUPT end
    return COMMITTED
  end
  if holds(log, head, last, items) then return DUPLICATE end
  if append[8] then return EXISTS end
  if head[1] < expected then return BEHIND end
  return CONFLICT
end

local batch = cmsgpack.unpack(ARGV[1])
if #batch == 0 then return cmsgpack.pack({{}, 0}) end
local agents = {}
for i, append in ipairs(batch) do agents[i] = append[1] end
local known = redis.call('HMGET', KEYS[1], unpack(agents))

-- Everything is checked before the first write: a script has no roll-back.
local answers, accepted, creating = {}, {}, {}
for i, append in ipairs(batch) do
  local head = known[i] and head_of(known[i])
  local status = CORRUPT
  if head or not known[i] then status = check(append, head, KEYS[4 + i]) end
  if status == COMMITTED then
    answers[i] = COMMITTED
    if #append[5] > 0 then
      accepted[#accepted + 1] = i
      creating[i] = head or {0, 0, '', append[4], append[7], 0}
    end
  elseif head then
    answers[i] = {status, head[1], head[4], head[5]}
    -- WAIT and WAITAOF speak of what their own connection has written, and the first copy came on another one.
    if status == DUPLICATE then redis.pcall('HSET', KEYS[1], append[1], known[i]) end
  else
    answers[i] = {status, 0, '', 0}
  end
end
if #accepted == 0 then return cmsgpack.pack({answers, 0}) end

local heads, feed, lines = {}, {}, {}
local notices, sizes = {}, {}
for _, i in ipairs(accepted) do
  local append, head = batch[i], creating[i]
  local agent, items, levels = append[1], append[5], append[6]
  local first = head[1] + 1
  head[1] = head[1] + #items
  head[3] = string.sub(items[#items], 1, 16)
  head[6] = append[7]
  heads[#heads + 1] = agent
  heads[#heads + 1] = cmsgpack.pack(head)
  if append[9] then
    lines[#lines + 1] = agent
    lines[#lines + 1] = append[9]
  end
  local bits = 0
  for j, item in ipairs(items) do
    local level = string.byte(levels, j)
    local notice = notices[level]
    if not notice then
      notice = {}
      notices[level], sizes[level] = notice, 0
    end
    notice[#notice + 1] = {agent, first + j - 1, item}
    sizes[level] = sizes[level] + #item
    local bit = 2 ^ level
    if bits % (2 * bit) < bit then bits = bits + bit end
  end
  feed[#feed + 1] = cmsgpack.pack({agent, first, #items, bits})
end

-- A key that holds something else raises while nothing is written yet: hashes are read first, the lists of the agents
-- were measured above, and the feed is the first that is written. Out of memory, too, is told at the first write only.
local marks = redis.call('HMGET', KEYS[4], 'base', '1', '2', '3', '4')
if #lines > 0 then redis.call('HMGET', KEYS[2], lines[1]) end
local position = (tonumber(marks[1]) or 0) + redis.call('RPUSH', KEYS[3], unpack(feed))
for _, i in ipairs(accepted) do
  local items = batch[i][5]
  -- In portions: Lua's stack takes less than 8,000 values, and whoever raises the limits may have more in one append.
  for start = 1, #items, 4000 do
    redis.call('RPUSH', KEYS[4 + i], unpack(items, start, math.min(start + 3999, #items)))
  end
end
redis.call('HSET', KEYS[1], unpack(heads))
if #lines > 0 then redis.call('HSET', KEYS[2], unpack(lines)) end

local put = 4 + #batch
for i, append in ipairs(batch) do
  for _, value in ipairs(append[10]) do
    put = put + 1
    if creating[i] then
      if value[2] > 0 then
        redis.call('SET', KEYS[put], value[1], 'PX', value[2])
      else
        redis.call('SET', KEYS[put], value[1])
      end
    end
  end
end

local moved, messages = {}, {}
for level, events in pairs(notices) do
  moved[#moved + 1] = tostring(level)
  moved[#moved + 1] = string.format('%.0f', position)
  local body = sizes[level] <= tonumber(ARGV[3]) and events
  messages[level] = cmsgpack.pack({tonumber(marks[1 + level]) or 0, position, body})
end
redis.call('HSET', KEYS[4], unpack(moved))

-- Last, and under pcall: a user who may not publish must not lose what is already written.
local lost = 0
for level, message in pairs(messages) do
  local sent = redis.pcall(ARGV[2], ARGV[3 + level], message)
  if type(sent) == 'table' and sent.err then lost = lost + 1 end
end
return cmsgpack.pack({answers, lost})
