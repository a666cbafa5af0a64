#!lua flags=allow-oom
-- Raise a host's beat. Runs also at `maxmemory`: a row that is written again takes no room, and without it all hosts
-- would bury each other.
--
-- KEYS  1 hosts  HASH  host -> msgpack [beat, state, machine, protocol, agent types, message types, load, ended_at];
--                      up to an hour after it has ended
-- ARGV  1 host
--       2 load   agents in its memory
-- Returns the new beat; nil if the host has ended, or has no row that can be read.

local known = redis.call('HMGET', KEYS[1], ARGV[1])[1]
local sound, row = pcall(cmsgpack.unpack, known or '')
if not known or not sound or type(row) ~= 'table' or type(row[1]) ~= 'number' then return nil end
if row[2] == 'closed' or row[2] == 'buried' then return nil end
row[1], row[7] = row[1] + 1, tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(row))
return row[1]
