-- Forget an erasure, unless it was taken over or begun anew meanwhile.
--
-- KEYS  1 erasing  HASH  root of a tree -> 1, or 2 once its agents are gone, and the host that erases it   until it ends
-- ARGV  1 root of the tree   2 the value that is to be removed
-- Returns 1 if it is removed, else 0.

if redis.call('HMGET', KEYS[1], ARGV[1])[1] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
