-- Keep a chunk of a content beside its agent's log, or only see how many there are.
--
-- KEYS  1 heads     HASH  agent -> its head                                           for ever
--       2 contents  HASH  digest -> msgpack [size, written at ms]                     for ever; a day without an agent
--       3 chunks    LIST  the chunks of this content                                  as contents
-- ARGV  1 agent   2 digest   3 size of the content   4 index of the chunk, from 0; -1: none   5 chunk
--       6 time to live in ms where there is no such agent; empty: refuse
-- Returns how many chunks there are now, -1: there is no such agent. A chunk that is there is not written again, nor
-- one whose predecessor is missing. The server's clock says when it is written: those of its clients may differ.

local exists = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if not exists and ARGV[6] == '' then return -1 end
local AGES = '3155760000000' -- 100 years
local time = redis.call('TIME') -- before the first write: this user may not be allowed to
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if exists then -- perhaps it was staged before: what has no time to live keeps having none
  redis.call('PEXPIRE', KEYS[2], AGES, 'GT')
  redis.call('PEXPIRE', KEYS[3], AGES, 'GT')
end
local length = redis.call('LLEN', KEYS[3])
redis.call('HSET', KEYS[2], ARGV[2], cmsgpack.pack({tonumber(ARGV[3]), now}))
if length == tonumber(ARGV[4]) then length = redis.call('RPUSH', KEYS[3], ARGV[5]) end
if not exists then
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
return length
