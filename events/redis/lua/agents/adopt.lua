-- Let agents of one partition come to be, with the logs that were staged for them: all of them or none.
--
-- KEYS  1 heads      HASH    agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]   for ever
--                            level -> last feed position with an event of it; base -> entries trimmed from the feed
--       2 directory  HASH    agent -> msgpack [status, agent type, session id, class needed, metadata]  for ever
--       3 feed       LIST    msgpack [agent, first seq, count, levels], one entry an agent          for ever
--       4 bases      HASH    agent -> msgpack [base, digest of the event at base]                   for ever
--       5 unfinished ZSET    agent -> due in ms                                                     for ever
--       then for each agent
--         staged     LIST    its events, beside its log                                             a day
--         log        LIST    its events                                                             for ever
--         values     STRING  snapshots and checkpoints                                              their TTL
--         from, to   checkpoints and keyframes that were staged (a day), and their own keys         their TTL
--         contents   HASH    the list of its contents, if it has any, then                          a day
--         chunks     LIST    those of each content                                                  a day
-- ARGV  1 agents     msgpack [[agent, seq, base, digest, fence, updated_at, entry, levels, puts, before, largest,
--                    moves, first, due, contents], ...]; puts = [[value, ttl in ms, 0, or -1 to add it to a list], ...],
--                    moves = [ttl in ms or 0, ...]; first = the first seq that the feed has; due = when unfinished
--                    work is to be looked at, in ms; -1: there is none; contents = how many there are
--       2 command    PUBLISH, or SPUBLISH in a cluster
--       3... channel of level 1, 2, 3, 4
-- Returns nil (done, now or before), or [what is in the way: exists, log or staged; the agent].

local PORTION = 4000 -- Lua's stack takes less than 8,000 values
local agents = cmsgpack.unpack(ARGV[1])
local places, at, known = {}, 6, 0
-- Where an agent's contents begin, and how many keys it has, counted from its place.
local function contents_of(agent) return 2 + #agent[9] + 2 * #agent[12] end
local function keys_of(agent) return contents_of(agent) + (agent[15] > 0 and 1 + agent[15] or 0) end
for i, agent in ipairs(agents) do
  places[i] = at
  local stored = redis.call('HMGET', KEYS[1], agent[1])[1]
  if stored then
    local sound, head = pcall(cmsgpack.unpack, stored)
    -- Ours, if its fence is: a first copy of this call came through, and its reply was lost.
    if not sound or type(head) ~= 'table' or head[4] ~= agent[5] then return {'exists', agent[1]} end
    known = known + 1
  else
    if redis.call('EXISTS', KEYS[at + 1]) ~= 0 then return {'log', agent[1]} end
    local last = redis.call('LRANGE', KEYS[at], -1, -1)[1]
    -- The last digest vouches for all before it: what is staged continues itself.
    local whole = redis.call('LLEN', KEYS[at]) == agent[2] - agent[3]
    if not whole or (last and string.sub(last, 1, 16) ~= agent[4]) then
      redis.call('DEL', KEYS[at])
      return {'staged', agent[1]}
    end
    local from = at + 2 + #agent[9]
    for j, put in ipairs(agent[9]) do
      if put[2] < 0 then redis.call('LLEN', KEYS[at + 1 + j]) end
    end
    for j = 0, #agent[12] - 1 do
      if redis.call('EXISTS', KEYS[from + 2 * j]) == 0 then return {'staged', agent[1]} end
    end
    for j = at + contents_of(agent), at + keys_of(agent) - 1 do
      if redis.call('EXISTS', KEYS[j]) == 0 then return {'staged', agent[1]} end
    end
  end
  at = at + keys_of(agent)
end
if known == #agents then return nil end

local feed, levels = {}, {}
for _, agent in ipairs(agents) do
  if agent[2] > agent[3] then
    feed[#feed + 1] = cmsgpack.pack({agent[1], agent[13], agent[2] + 1 - agent[13], agent[8]})
    for level = 1, 4 do
      local bit = 2 ^ level
      if agent[8] % (2 * bit) >= bit then levels[level] = true end
    end
  end
end
-- Hashes are read and the feed is written first: a key that holds something else raises while nothing is written yet.
-- The index of unfinished work comes before: an entry too many does no harm.
local marks = redis.call('HMGET', KEYS[1], '1', '2', '3', '4')
redis.call('HMGET', KEYS[2], agents[1][1])
redis.call('HMGET', KEYS[4], agents[1][1])
for _, agent in ipairs(agents) do
  if agent[14] >= 0 then redis.call('ZADD', KEYS[5], agent[14], agent[1]) end
end
local position = #feed
for level = 1, 4 do position = math.max(position, (tonumber(marks[level]) or 0) + #feed) end
for start = 1, #feed, PORTION do
  redis.call('RPUSH', KEYS[3], unpack(feed, start, math.min(start + PORTION - 1, #feed)))
end

for i, agent in ipairs(agents) do
  local place = places[i]
  if agent[2] > agent[3] then
    redis.call('RENAME', KEYS[place], KEYS[place + 1])
    redis.call('PERSIST', KEYS[place + 1])
  end
  for j, put in ipairs(agent[9]) do
    if put[2] > 0 then
      redis.call('SET', KEYS[place + 1 + j], put[1], 'PX', put[2])
    elseif put[2] < 0 then
      redis.call('RPUSH', KEYS[place + 1 + j], put[1])
    else
      redis.call('SET', KEYS[place + 1 + j], put[1])
    end
  end
  for j, ttl in ipairs(agent[12]) do
    local from = place + 2 + #agent[9] + 2 * (j - 1)
    redis.call('RENAME', KEYS[from], KEYS[from + 1])
    if ttl > 0 then redis.call('PEXPIRE', KEYS[from + 1], ttl) else redis.call('PERSIST', KEYS[from + 1]) end
  end
  for j = place + contents_of(agent), place + keys_of(agent) - 1 do redis.call('PERSIST', KEYS[j]) end
  if agent[3] > 0 then redis.call('HSET', KEYS[4], agent[1], cmsgpack.pack({agent[3], agent[10]})) end
  redis.call('HSET', KEYS[2], agent[1], agent[7])
  local head = {agent[2], agent[3], agent[4], agent[5], agent[6], agent[6], agent[11]}
  redis.call('HSET', KEYS[1], agent[1], cmsgpack.pack(head))
end

local together = 0
for level in pairs(levels) do together = together + 2 ^ level end
for level in pairs(levels) do
  redis.call('HSET', KEYS[1], tostring(level), string.format('%.0f', position))
  local message = cmsgpack.pack({tonumber(marks[level]) or 0, position, false, position - #feed, together})
  redis.pcall(ARGV[2], ARGV[2 + level], message)
end
return nil
