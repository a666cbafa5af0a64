#!lua flags=no-writes
-- Read consecutive events of one agent, together with the head they belong to.
--
-- KEYS  1 heads  HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at]   for ever
--       2 log    LIST  the agent's events                                                     for ever
-- ARGV  1 agent
--       2 from   first seq wanted
--       3 count  at most so many events
--       4 bytes  stop after the event that reaches so many bytes
-- Returns nil (no such agent) or [the head as stored, length of the list, first seq, item, item ...].

local stored = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if not stored then return nil end
local base = cmsgpack.unpack(stored)[2]
local from = math.max(tonumber(ARGV[2]), base + 1)
local at, last = from - base - 1, from - base - 2 + tonumber(ARGV[3])
local page, size = {stored, redis.call('LLEN', KEYS[2]), from}, 0
-- In small steps: a whole page of the largest events would take a hundred times the memory it may return.
while at <= last and size < tonumber(ARGV[4]) do
  local items = redis.call('LRANGE', KEYS[2], at, math.min(at + 31, last))
  if #items == 0 then break end
  for _, item in ipairs(items) do
    page[#page + 1] = item
    size = size + #item
    if size >= tonumber(ARGV[4]) then break end
  end
  at = at + 32
end
return page
