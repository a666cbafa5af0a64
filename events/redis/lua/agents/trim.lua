#!lua flags=allow-oom
-- Remove the oldest events of one agent, and put the state that stands in for them: both, or nothing. Runs also at
-- `maxmemory`: it needs room for one state for a moment, and is how room is made.
--
-- KEYS  1 heads     HASH    agent -> msgpack [head, base, digest, fence, claimed_at, updated_at]   for ever
--       2 bases     HASH    agent -> msgpack [base, digest of the event at base]                   for ever
--       3 log       LIST    the agent's events                                                     for ever
--       4 base      STRING  the agent's state at its base                                          until the next trim
-- ARGV  1 agent
--       2 seq       the new base: the last event to go
--       3 digest    of the event at seq
--       4 snapshot  the state at seq
-- Returns [status, base]: 0 done (now, or by this same call before), 1 no such agent, 2 trimmed further already,
-- 3 the log has another event at seq, or none, 4 head and list do not fit together, or cannot be read.
--
-- No fence is asked for: the state is that of a prefix, which no writer can change any more, and the digest says which.

local DONE, GONE, PASSED, OTHER, CORRUPT = 0, 1, 2, 3, 4

local stored = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if not stored then return {GONE, 0} end
local sound, head = pcall(cmsgpack.unpack, stored)
sound = sound and type(head) == 'table' and type(head[1]) == 'number' and type(head[2]) == 'number'
if not sound or type(head[7] or 0) ~= 'number' then return {CORRUPT, 0} end
local base, seq = head[2], tonumber(ARGV[2])
if seq < base then return {PASSED, base} end
if seq == base then
  -- The reply to the first copy of this call may have been lost.
  local known = redis.call('HMGET', KEYS[2], ARGV[1])[1]
  local readable, there = pcall(cmsgpack.unpack, known or '')
  if known and not (readable and type(there) == 'table') then return {CORRUPT, base} end
  if known and there[2] == ARGV[3] then return {DONE, base} end
  return {OTHER, base}
end
local length = redis.pcall('LLEN', KEYS[3])
if type(length) ~= 'number' or base + length ~= head[1] then return {CORRUPT, base} end
local found = redis.call('LRANGE', KEYS[3], seq - base - 1, seq - base - 1)[1]
if not found or string.sub(found, 1, 16) ~= ARGV[3] then return {OTHER, base} end

-- A command that this user may not run would be refused half-way.
if not redis.acl_check_cmd('LTRIM', KEYS[3], '0', '-1') then
  return redis.error_reply('NOPERM this user has no permissions to run the LTRIM command')
end
-- All is checked: a script has no roll-back.
redis.call('HMGET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[4], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], cmsgpack.pack({seq, ARGV[3]}))
redis.call('LTRIM', KEYS[3], seq - base, -1)
head[2] = seq
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(head))
return {DONE, seq}
