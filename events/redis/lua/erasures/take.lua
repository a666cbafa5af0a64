-- Take over the erasure that a host has begun which died, unless somebody else has taken it or ended it.
--
-- KEYS  1 erasing  HASH  root of a tree -> 1, or 2 once its agents are gone, and the host that erases it   until it ends
-- ARGV  1 root of the tree   2 the value of the host that died   3 that of the host that goes on
-- Returns 1 if it is the caller's now, else 0.

if redis.call('HMGET', KEYS[1], ARGV[1])[1] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
