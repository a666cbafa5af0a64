-- Return the secret of a namespace, which is made once.
--
-- KEYS  1 namespace  HASH  format, partitions, identity, episodes; integrity, secret, where there is one   for ever
-- ARGV  1 secret     used only if there is none

local known = redis.call('HMGET', KEYS[1], 'secret')[1]
if known then return known end
redis.call('HSET', KEYS[1], 'secret', ARGV[1])
return ARGV[1]
