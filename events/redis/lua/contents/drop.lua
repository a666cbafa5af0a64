-- Remove contents of an agent that were not written of late, by the server's clock.
--
-- KEYS  1 contents  HASH  digest -> msgpack [size, written at ms]   for ever
--       2...        LIST  the chunks of each content                for ever
-- ARGV  1 age in ms: younger contents stay   2... the digest of each content
-- Returns how many were removed.

local time = redis.call('TIME')
local newest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local gone = 0
for i = 2, #ARGV do
  local stored = redis.call('HMGET', KEYS[1], ARGV[i])[1]
  if stored and cmsgpack.unpack(stored)[2] <= newest then
    redis.call('UNLINK', KEYS[i])
    redis.call('HDEL', KEYS[1], ARGV[i])
    gone = gone + 1
  end
end
return gone
