-- Make a namespace, once, or read how it was made.
--
-- KEYS  1 namespace  HASH  format, partitions, identity   for ever
-- ARGV  1 format, 2 partitions, 3 identity: used only when the namespace is new
-- Returns [format, partitions, identity] as stored.

local stored = redis.call('HMGET', KEYS[1], 'format', 'partitions', 'identity')
if not stored[1] then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'identity', ARGV[3])
  return {ARGV[1], ARGV[2], ARGV[3]}
end
return stored
