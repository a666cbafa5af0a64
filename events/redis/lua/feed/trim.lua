#!lua flags=allow-oom
-- Remove the oldest entries of a partition's feed; the positions of all others stay. Runs also at `maxmemory`.
--
-- KEYS  1 feed   LIST  msgpack [agent, first seq, count, levels], one entry an append            for ever
--       2 heads  HASH  base -> entries trimmed from the feed; level -> last feed position with an event of it
-- ARGV  1 position  the last entry to go
-- Returns the number of entries trimmed since the beginning; nothing is done if the feed does not reach so far. -1: the
-- feed does not end where its appends have left it, and nothing is done.

local marks = redis.call('HMGET', KEYS[2], 'base', '1', '2', '3', '4')
local base, stop = tonumber(marks[1]) or 0, 0
for level = 1, 4 do stop = math.max(stop, tonumber(marks[1 + level]) or 0) end
local position, length = tonumber(ARGV[1]), redis.pcall('LLEN', KEYS[1])
if type(length) ~= 'number' or base + length ~= stop then return -1 end
if position <= base or position > stop then return base end
-- A command that this user may not run would be refused half-way.
if not redis.acl_check_cmd('LTRIM', KEYS[1], '0', '-1') then
  return redis.error_reply('NOPERM this user has no permissions to run the LTRIM command')
end
redis.call('HSET', KEYS[2], 'base', ARGV[1])
redis.call('LTRIM', KEYS[1], position - base, -1)
return position
