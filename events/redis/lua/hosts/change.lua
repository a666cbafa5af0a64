#!lua flags=allow-oom
-- Add a host, or change one. Runs also at `maxmemory`: a row takes little room, and without it a full
-- server could not be opened, nor a dead host's agents be taken over. Copies of a call that arrive late change nothing.
--
-- KEYS  1 hosts  HASH  host -> msgpack [beat, state, machine, protocol, agent types, message types, load, ended_at];
--                      up to an hour after it has ended
-- ARGV  1 host
--       2 what   join      add it. ARGV 3: its row
--                draining  if it is up
--                closed    unless it has ended. ARGV 3: ended_at
--                buried    if its beat is still that of ARGV 4, unless it has ended. ARGV 3: ended_at
--                types     ARGV 3: its agent types, msgpack
--                forget    remove it if it has ended
-- Returns its state afterwards, nil if it has no row or one that cannot be read.

local known = redis.call('HMGET', KEYS[1], ARGV[1])[1]
if ARGV[2] == 'join' then
  if known then return nil end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  return 'up'
end
local sound, row = pcall(cmsgpack.unpack, known or '')
if not known or not sound or type(row) ~= 'table' or type(row[1]) ~= 'number' or type(row[2]) ~= 'string' then
  return nil
end
local ended = row[2] == 'closed' or row[2] == 'buried'
if ARGV[2] == 'forget' then
  if ended then redis.call('HDEL', KEYS[1], ARGV[1]) end
  return row[2]
end
if ARGV[2] == 'types' then
  row[5] = cmsgpack.unpack(ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(row))
  return row[2]
end
if ended or (ARGV[2] == 'draining' and row[2] ~= 'up') or (ARGV[2] == 'buried' and row[1] ~= tonumber(ARGV[4])) then
  return row[2]
end
row[2] = ARGV[2]
if ARGV[2] ~= 'draining' then row[8] = tonumber(ARGV[3]) end
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(row))
return row[2]
