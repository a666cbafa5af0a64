#!lua flags=allow-oom
-- Take an agent over for a host: if its tree is as the claimer saw it, or the claimer's already, and its head is exactly
-- the one that was folded. Runs also at `maxmemory`: a head that is written again takes no room.
--
-- KEYS  1 owners  HASH  root agent -> `epoch:host`; `epoch:`, or any other form: nobody's              for ever
--       2 heads   HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]   for ever
--       3 log     LIST  the agent's events                                                              for ever
-- ARGV  1 root    the root agent
--       2 agent
--       3 epoch, 4 owner   of the tree, as seen
--       5 seq, 6 digest, 7 fence   of the agent, as folded
--       8 host    the claimer
--       9 now     the claimer's clock in µs
-- Returns [whether it is claimed, the tree's entry in `owners` or false, the agent's head or false, the length of its
-- list; -1 if the key holds something else]: what stands there after the call.

local function length()
  local found = redis.pcall('LLEN', KEYS[3])
  return type(found) == 'number' and found or -1
end

local entry = redis.call('HMGET', KEYS[1], ARGV[1])[1]
local stored = redis.call('HMGET', KEYS[2], ARGV[2])[1]
local epoch, owner = string.match(entry or '', '^(%d+):(%S*)$')
if not epoch or #epoch > 15 or #owner > 128 then epoch, owner = '0', '' end
epoch = tonumber(epoch)
local mine = owner == ARGV[8]
local sound, head = pcall(cmsgpack.unpack, stored or '')
local folded = stored and sound and type(head) == 'table' and head[1] == tonumber(ARGV[5]) and head[3] == ARGV[6]
if not folded or not (mine or (epoch == tonumber(ARGV[3]) and owner == ARGV[4])) then return {0, entry, stored, 0} end

local before = tonumber(string.match(ARGV[7], '^(%d+):'))
if not before then return {0, entry, stored, 0} end
local fence = string.format('%.0f:%s', before + 1, ARGV[8])
-- The first copy of this call came through, and its reply was lost.
if mine and head[4] == fence then return {1, entry, stored, length()} end
if head[4] ~= ARGV[7] then return {0, entry, stored, 0} end
head[4], head[5] = fence, tonumber(ARGV[9])
stored = cmsgpack.pack(head)
if not mine then
  entry = string.format('%.0f:%s', epoch + 1, ARGV[8])
  redis.call('HSET', KEYS[1], ARGV[1], entry)
end
redis.call('HSET', KEYS[2], ARGV[2], stored)
return {1, entry, stored, length()}
