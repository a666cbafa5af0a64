-- Throw away a view that is being built.
--
-- KEYS  1 views  HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
--       2 next   STRING or HASH  the view that is being built                                              until removed
-- ARGV  1 next   field of it in `views`
--       2 token  of its writer
-- Returns 1; 0 where there is none, or another's.

local found = redis.call('HMGET', KEYS[1], ARGV[1])[1]
local sound, record = pcall(cmsgpack.unpack, found or '')
if not sound or type(record) ~= 'table' or record[1] ~= ARGV[2] then return 0 end
redis.call('UNLINK', KEYS[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
