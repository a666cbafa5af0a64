#!lua flags=no-writes
-- The latest state that is kept of an agent, no later than a seq.
--
-- KEYS  1 seqs       ZSET  the seqs at which one is kept, each scored by itself   until the log is trimmed past them
--       2 keyframes  HASH  seq -> snapshot                                        as those
-- ARGV  1 seq
-- Returns [seq, snapshot]; the snapshot is nil where it is gone. Nil: none is kept.

local found = redis.call('ZRANGE', KEYS[1], ARGV[1], 0, 'BYSCORE', 'REV', 'LIMIT', 0, 1)
if #found == 0 then return nil end
return {found[1], redis.call('HMGET', KEYS[2], found[1])[1]}
