#!lua flags=no-writes
-- The latest keyframe of an agent, no later than a seq, that has the setters of its values beside it.
--
-- KEYS  1 seqs       ZSET  the seqs at which a keyframe is kept, each scored by itself   until the log is trimmed past
--       2 keyframes  HASH  seq -> snapshot; setters:seq -> setters                       as those
-- ARGV  1 seq
--       2 how many keyframes to look at
-- Returns [seq, snapshot, setters]. Nil: there is none.

for _, seq in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], 0, 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[2])) do
  local setters = redis.call('HMGET', KEYS[2], 'setters:' .. seq)[1]
  if setters then
    local snapshot = redis.call('HMGET', KEYS[2], seq)[1]
    if snapshot then return {seq, snapshot, setters} end
  end
end
return nil
