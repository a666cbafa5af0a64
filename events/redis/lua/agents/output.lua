-- Add an entry to a live output, and publish it. The first entry opens the output, in the place of an older one.
--
-- KEYS  1 output   LIST  header, entry, ...                                 a time to live, from the latest entry
--       2 outputs  HASH  output -> its name, for each output of the agent   7 days from the latest opening
-- ARGV  1 header   2 index of the entry   3 entry   4 time to live in ms
--       5 output, as in the hash   6 name   7 time to live of the hash in ms
--       8 command PUBLISH, or SPUBLISH in a cluster   9 channel   10 what is published
-- Returns 1, or 0: the output is gone, was opened again, or has lost entries.

local index = tonumber(ARGV[2])
local header = redis.call('LRANGE', KEYS[1], 0, 0)[1]
if header ~= ARGV[1] then
  if index ~= 1 then return 0 end
  redis.call('UNLINK', KEYS[1])
  redis.call('RPUSH', KEYS[1], ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
local length = redis.call('LLEN', KEYS[1])
if length < index then return 0 end
if length == index then
  redis.call('RPUSH', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.pcall(ARGV[8], ARGV[9], ARGV[10])
end
return 1
