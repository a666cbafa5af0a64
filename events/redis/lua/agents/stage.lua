-- Put events beside the log of an agent that does not exist yet, in portions.
--
-- KEYS  1 staged  LIST  events as they will stand in the log   a day after the last portion
-- ARGV  1 at        how many were staged before this portion
--       2 previous  the digest that this portion continues
--       3 time to live in ms
--       4... items
-- Returns how many are staged now. A portion that comes again changes nothing; if what is staged is of another history,
-- it is removed, and 0 is returned.

local at, length = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1])
local count = #ARGV - 3

local function digest_at(index)
  local item = redis.call('LRANGE', KEYS[1], index, index)[1]
  return item and string.sub(item, 1, 16)
end

if length >= at + count then
  if digest_at(at + count - 1) == string.sub(ARGV[#ARGV], 1, 16) then return length end
elseif length == at and (at == 0 or digest_at(at - 1) == ARGV[2]) then
  for start = 4, #ARGV, 4000 do
    length = redis.call('RPUSH', KEYS[1], unpack(ARGV, start, math.min(start + 3999, #ARGV)))
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return length
end
redis.call('DEL', KEYS[1])
return 0
