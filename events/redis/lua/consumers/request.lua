-- Leave a request for the process that runs a consumer.
--
-- KEYS  1 views  HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
-- ARGV  1 live, 2 next: fields of the consumer's views in `views`; 3 field of its wish; 4 the wish
--       5 the wish that it replaces, '' for none; left out: whatever there is
-- Returns 1; 0 if there is no such consumer, or another wish, and nothing was written.

local found = redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])
if not found[1] and not found[2] then return 0 end
if ARGV[5] and (redis.call('HMGET', KEYS[1], ARGV[3])[1] or '') ~= ARGV[5] then return 0 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
return 1
