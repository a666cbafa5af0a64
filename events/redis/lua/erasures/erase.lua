-- Remove all that is stored of the agents of a tree, unless a lifecycle event came in between, or an erasure that was
-- taken over is somebody else's now: all, or nothing.
--
-- KEYS  1 heads       HASH  agent -> msgpack [head, base, digest, ...]; `~ID` -> feed position of an erasure   for ever
--       2 directory   HASH  agent -> its line                                                               for ever
--       3 feed        LIST  msgpack [agent, first seq, count, levels], one entry an append                  for ever
--       4 bases       HASH  agent -> its base                                                               for ever
--       5 unfinished  ZSET  agent -> due in ms                                                              for ever
--       6 owners      HASH  root agent -> the host that has its tree                                        for ever
--       7 erasing     HASH  root of a tree -> 1, or 2 once this is done, and the host that erases it    until all is done
--       8...                the agents' own keys, seven each, of which the last lists the agent's contents  removed
-- ARGV  1 root of the tree   2 feed position up to which no entry names the tree, as of before its checkpoints were read
--       3 1 where the tree's owner goes too
--       4 msgpack [[agent, its field of an erasure, [digest of each content]], ...]
--       5 the host that erases   6 1 if it has taken the erasure over
-- Returns how many events are gone; -1: begin again, an agent was spawned or paused meanwhile, or there is much to do;
-- -2: another host has taken the erasure over, or it has ended.

local LIFECYCLE, MOST, SHARED, OWN, ALL = 2, 2000, 7, 7, 1000000000
local PORTION = 4000 -- Lua's stack takes less than 8,000 values
local root, below = ARGV[1], ARGV[1] .. '/'
local note = redis.call('HMGET', KEYS[7], root)[1]
local is_ours = note == '1' .. ARGV[5]
if ARGV[6] == '1' and not is_ours then return -2 end
local agents = cmsgpack.unpack(ARGV[4])
local marks = redis.call('HMGET', KEYS[1], 'base', 'erasures')
local base, erasures = tonumber(marks[1] or 0), tonumber(marks[2] or 0)
local finish = base + redis.call('LLEN', KEYS[3])
local from = math.max(tonumber(ARGV[2]) - base, 0)
if finish - base - from > MOST then return -1 end
local rows, found = redis.call('LRANGE', KEYS[3], from, -1), {}
for i = 1, #rows do
  local sound, entry = pcall(cmsgpack.unpack, rows[i])
  local agent = sound and type(entry) == 'table' and entry[1]
  if type(agent) == 'string' and (agent == root or string.sub(agent, 1, #below) == below) then
    if bit.band(entry[4], LIFECYCLE) ~= 0 then return -1 end
    found[#found + 1] = {from + i - 1, cmsgpack.pack({'', entry[2], entry[3], 0})}
  end
end

-- Content that came in between would stay without its list.
for i = 1, #agents do
  local list, digests = KEYS[SHARED + OWN * i], agents[i][3]
  if #redis.call('HSCAN', list, '0', 'COUNT', ALL)[2] ~= 2 * #digests then return -1 end
  for start = 1, #digests, PORTION do
    local held = redis.call('HMGET', list, unpack(digests, start, math.min(start + PORTION - 1, #digests)))
    for j = 1, #held do
      if not held[j] then return -1 end
    end
  end
end

-- A command that this user may not run would be refused half-way.
local needed = {{'HDEL', KEYS[1], 'x'}, {'UNLINK', KEYS[8]}, {'ZREM', KEYS[5], 'x'}, {'LSET', KEYS[3], '0', 'x'}}
for _, command in ipairs(needed) do
  if not redis.acl_check_cmd(unpack(command)) then
    return redis.error_reply('NOPERM this user has no permissions to run the ' .. command[1] .. ' command')
  end
end
local events = 0
redis.call('HSET', KEYS[1], 'erasures', erasures + 1)
for i = 1, #found do redis.call('LSET', KEYS[3], found[i][1], found[i][2]) end
for i = 1, #agents do
  local agent = agents[i][1]
  local sound, head = pcall(cmsgpack.unpack, redis.call('HMGET', KEYS[1], agent)[1] or '')
  if sound and type(head) == 'table' then events = events + head[1] - head[2] end
  redis.call('HDEL', KEYS[1], agent)
  redis.call('HSET', KEYS[1], agents[i][2], finish)
  redis.call('HDEL', KEYS[2], agent)
  redis.call('HDEL', KEYS[4], agent)
  redis.call('ZREM', KEYS[5], agent)
end
if ARGV[3] == '1' then redis.call('HDEL', KEYS[6], root) end
for i = SHARED + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
-- The note of another host that has begun to erase the tree stays: that host may have to remove what comes after this.
if is_ours or not note or string.sub(note, 1, 1) == '2' then redis.call('HSET', KEYS[7], root, '2' .. ARGV[5]) end
return events
