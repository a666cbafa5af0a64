-- Remove the oldest entries of a partition's feed; the positions of all others stay.
--
-- KEYS  1 feed   LIST  msgpack [agent, first seq, count, levels], one entry an append            for ever
--       2 heads  HASH  base -> entries trimmed from the feed, among the heads of the agents    for ever
-- ARGV  1 position  the last entry to go
-- Returns the number of entries trimmed since the beginning; nothing is done if the feed does not reach so far.

local base = tonumber(redis.call('HMGET', KEYS[2], 'base')[1]) or 0
local position = tonumber(ARGV[1])
if position <= base or position > base + redis.call('LLEN', KEYS[1]) then return base end
-- A command that this user may not run would be refused half-way.
if not redis.acl_check_cmd('LTRIM', KEYS[1], '0', '-1') then
  return redis.error_reply('NOPERM this user has no permissions to run the LTRIM command')
end
redis.call('HSET', KEYS[2], 'base', ARGV[1])
redis.call('LTRIM', KEYS[1], position - base, -1)
return position
