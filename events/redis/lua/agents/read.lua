#!lua flags=no-writes
-- Read consecutive events of one agent, together with the head they belong to.
--
-- KEYS  1 heads  HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]   for ever
--       2 log    LIST  the agent's events                                                              for ever
-- ARGV  1 agent
--       2 from   first seq wanted
--       3 count  at most so many events
--       4 bytes  stop after the event that reaches so many bytes
-- Returns nil (no such agent), [the head as stored] if it is damaged, or [the head as stored, length of the list, -1 if
-- the key holds something else, first seq, [item, ...], [item, ...] ...].

local STEP = 32 -- a whole page of the largest events at once would take a hundred times the memory it may return

local stored = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if not stored then return nil end
local sound, head = pcall(cmsgpack.unpack, stored)
if not sound or type(head) ~= 'table' or type(head[2]) ~= 'number' then return {stored} end
local length = redis.pcall('LLEN', KEYS[2])
if type(length) ~= 'number' then return {stored, -1} end
local base, largest = head[2], tonumber(head[7]) or 0
local from, most = math.max(tonumber(ARGV[2]), base + 1), tonumber(ARGV[4])
-- As many as cannot be too much. A list is walked through from its nearer end, for each part of it again: in the middle
-- of 1,000,000 events a part costs as much as reading 60.
local step = largest > 0 and math.max(STEP, math.floor(most / largest)) or STEP
local at, last = from - base - 1, from - base - 2 + tonumber(ARGV[3])
local page, size = {stored, length, from}, 0
while at <= last and size < most do
  local items = redis.call('LRANGE', KEYS[2], at, math.min(at + step - 1, last))
  if #items == 0 then break end
  -- The parts go out as they came: putting their items into one table took a third of this script's time.
  page[#page + 1] = items
  for i = 1, #items do
    size = size + #items[i]
    if size >= most then
      for j = i + 1, #items do items[j] = nil end
      break
    end
  end
  at = at + step
end
return page
