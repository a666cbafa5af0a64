#!lua flags=allow-oom
-- Give a tree to a host, or to nobody, if it is as the caller saw it.
--
-- KEYS  1 owners  HASH  root agent -> `epoch:host`; `epoch:`, or any other form: nobody's   for ever
-- ARGV  1 root    the root agent
--       2 epoch, 3 owner   of the tree, as seen
--       4 entry   to write
-- Returns the entry in `owners` afterwards.

local entry = redis.call('HMGET', KEYS[1], ARGV[1])[1]
local epoch, owner = string.match(entry or '', '^(%d+):(%S*)$')
if not epoch or #epoch > 15 or #owner > 128 then epoch, owner = '0', '' end
if tonumber(epoch) ~= tonumber(ARGV[2]) or owner ~= ARGV[3] then return entry end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return ARGV[4]
