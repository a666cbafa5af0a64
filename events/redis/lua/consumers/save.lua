-- Write a view and its position in one step: no reader sees the one without the other.
--
-- KEYS  1 views   HASH  live:NAME, next:NAME -> msgpack [token, revision, form, rest]; wish:NAME -> a wish   until removed
--       2 data    STRING (a view kept whole) or HASH (an entry a key)                                        until removed
-- ARGV  1 field   of this view in `views`
--       2 token   of the writer
--       3 from    the revision that this one continues
--       4 record  as it will be stored
--       5 wish    the wish's field in `views`
--       6 done    msgpack of the wish that was obeyed, or ''
--       7 kind    'whole', 'keyed', or '' where only the record is written
--       8...      whole: the view; keyed: the number of entries, then key and value of each, then keys to take away
-- Returns [0, revision, wish] (written), [1, record] (the view is another's, or damaged), [2, revision, wish] (it is at another
-- revision), [3] (there is none). A wish is false where there is none.

local found = redis.call('HMGET', KEYS[1], ARGV[1], ARGV[5])
if not found[1] then return {3} end
local sound, record = pcall(cmsgpack.unpack, found[1])
if not sound or type(record) ~= 'table' or record[1] ~= ARGV[2] then return {1, found[1]} end
local revision = tonumber(ARGV[3])
-- The same save once more, because its answer was lost: both are the same bytes.
if found[1] == ARGV[4] then return {0, revision + 1, found[2]} end
if record[2] ~= revision then return {2, record[2], found[2]} end

-- A key that holds something else, and memory that has run out, raise at the first write, before the record changes.
if ARGV[7] == 'whole' then
  redis.call('SET', KEYS[2], ARGV[8])
elseif ARGV[7] == 'keyed' then
  local last = 8 + 2 * tonumber(ARGV[8])
  -- In portions: Lua's stack takes less than 8,000 values.
  for start = 9, last, 4000 do
    redis.call('HSET', KEYS[2], unpack(ARGV, start, math.min(start + 3999, last)))
  end
  for start = last + 1, #ARGV, 4000 do
    redis.call('HDEL', KEYS[2], unpack(ARGV, start, math.min(start + 3999, #ARGV)))
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
if found[2] and found[2] == ARGV[6] then
  redis.call('HDEL', KEYS[1], ARGV[5])
  found[2] = false
end
return {0, revision + 1, found[2]}
