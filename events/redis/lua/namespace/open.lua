-- Make a namespace, once, or read how it was made.
--
-- KEYS  1 namespace  HASH  format, partitions, identity, episodes; integrity, where a key is used   for ever
-- ARGV  1 format, 2 partitions, 3 identity, 4 fingerprint of the integrity key, empty without one: used only when the
--       namespace is new
-- Returns [format, partitions, identity, fingerprint or false] as stored.

local stored = redis.call('HMGET', KEYS[1], 'format', 'partitions', 'identity', 'integrity')
if not stored[1] then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'identity', ARGV[3], 'episodes', '1')
  if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'integrity', ARGV[4]) end
  return ARGV
end
return stored
