-- Forget a consumer with its views.
--
-- KEYS  1 views  HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
--       2, 3     STRING or HASH  its live view, and the one beside it                                       until removed
-- ARGV  1...     its fields in `views`
-- Returns how many fields there were.

redis.call('UNLINK', KEYS[2], KEYS[3])
return redis.call('HDEL', KEYS[1], unpack(ARGV))
