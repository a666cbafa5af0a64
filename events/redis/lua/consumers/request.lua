-- Leave a request for the process that runs a consumer.
--
-- KEYS  1 views  HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
-- ARGV  1 live, 2 next: fields of the consumer's views in `views`; 3 field of its wish; 4 the wish
-- Returns 1; 0 if there is no such consumer, and nothing was written.

local found = redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])
if not found[1] and not found[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
return 1
