-- Say where the feeds of some partitions end.
--
-- KEYS  for each partition: heads  HASH  level -> last feed position with an event of it; base -> entries trimmed
--                           feed   LIST  one entry an append
-- Returns a position for each partition. A damaged feed, which does not end where its appends have left it, ends after
-- everything, so that its readers read on, and find out.

local ends = {}
for i = 1, #KEYS, 2 do
  local marks = redis.call('HMGET', KEYS[i], 'base', '1', '2', '3', '4')
  local position = (tonumber(marks[1]) or 0) + redis.call('LLEN', KEYS[i + 1])
  local last = 0
  for level = 2, 5 do last = math.max(last, tonumber(marks[level]) or 0) end
  ends[#ends + 1] = position == last and position or math.max(position, last) + 1
end
return ends
