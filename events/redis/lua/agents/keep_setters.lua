-- Put the setters of an agent's values beside the keyframe at a seq, if that is kept and no smaller.
--
-- KEYS  1 keyframes  HASH  seq -> snapshot; setters:seq -> setters   until the log is trimmed past them
-- ARGV  1 seq
--       2 setters
-- Returns 1, or 0 where nothing was written.

local snapshot = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if not snapshot or #snapshot < #ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'setters:' .. ARGV[1], ARGV[2])
return 1
