-- Take a view over, or make it: the process that wrote it before is refused from now on.
--
-- KEYS  1 views  HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
--       2 data   STRING or HASH  the view itself                                                            until removed
-- ARGV  1 field  of this view in `views`
--       2 owner  identifies the claimer; the new token is `epoch:owner`
--       3 form   what code must be alike in to carry a view on
--       4 rest   of the record, where the view has to be made
--       5 replace  which view is replaced by an empty one: 'none', 'other' (one of another form), 'any'
-- Returns the record as it then is; nil if it has another form and was left as it is. A damaged one is returned, and
-- left as it is, unless any is to be replaced.

-- A record that can be read, or nil.
local function record_of(stored)
  local sound, record = pcall(cmsgpack.unpack, stored or '')
  sound = sound and type(record) == 'table' and type(record[1]) == 'string' and string.match(record[1], '^(%d+):')
  return sound and record or nil
end

local stored = redis.call('HMGET', KEYS[1], ARGV[1])[1]
local record = record_of(stored)
if stored and not record and ARGV[5] ~= 'any' then return stored end
local epoch = 0
if record then
  local known, owner = string.match(record[1], '^(%d+):(.*)$')
  epoch = tonumber(known)
  local same = record[3] == ARGV[3]
  -- Asked for again, because the first answer was lost: a second epoch would fence the first.
  if same and owner == ARGV[2] and (ARGV[5] ~= 'any' or record[2] == 0) then return stored end
  if not same and ARGV[5] == 'none' then return nil end
  if not same or ARGV[5] == 'any' then record = nil end
end
if not record then
  redis.call('UNLINK', KEYS[2])
  record = {'', 0, ARGV[3], ARGV[4]}
end
record[1] = string.format('%.0f:%s', epoch + 1, ARGV[2])
stored = cmsgpack.pack(record)
redis.call('HSET', KEYS[1], ARGV[1], stored)
return stored
