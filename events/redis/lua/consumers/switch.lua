-- Put the view that was being built in the place of the live one, whose writer is refused from now on.
--
-- KEYS  1 views   HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
--       2 live    STRING or HASH  the live view                                                              until removed
--       3 next    STRING or HASH  the view beside it                                                         until removed
-- ARGV  1 live    field of the live view in `views`
--       2 next    field of the view beside it
--       3 token   of the writer of the view beside it
--       4 owner   of that token; the new one is `epoch:owner`, above the epochs of both
-- Returns [0, record] (it is live), [1, record] (the view beside it is another's, or damaged), [3] (there is none).

-- A record that can be read, or nil.
local function record_of(stored)
  local sound, record = pcall(cmsgpack.unpack, stored or '')
  sound = sound and type(record) == 'table' and type(record[1]) == 'string' and string.match(record[1], '^(%d+):')
  return sound and record or nil
end

local found = redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])
local live = record_of(found[1])
if not found[2] then
  -- Done before, and only the answer was lost.
  if live and string.match(live[1], '^%d+:(.*)$') == ARGV[4] then return {0, found[1]} end
  return {3}
end
local record = record_of(found[2])
if not record or record[1] ~= ARGV[3] then return {1, found[2]} end
local epoch = tonumber(string.match(record[1], '^(%d+):'))
if live then epoch = math.max(epoch, tonumber(string.match(live[1], '^(%d+):'))) end
record[1] = string.format('%.0f:%s', epoch + 1, ARGV[4])
local stored = cmsgpack.pack(record)
-- Freed in the background: RENAME over a large hash would hold everybody up.
redis.call('UNLINK', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[2]) end
redis.call('HSET', KEYS[1], ARGV[1], stored)
redis.call('HDEL', KEYS[1], ARGV[2])
return {0, stored}
