-- Take the name of a tree of agents out of some entries of a feed, which keep their places and counts.
--
-- KEYS  1 heads  HASH  `base` -> entries trimmed from the feed; `erasures` -> how often agents were taken out   for ever
--       2 feed   LIST  msgpack [agent, first seq, count, levels], one entry an append                           for ever
-- ARGV  1 root of the tree   2 feed position to begin after   3 most entries
-- Returns the position that was reached, and the feed's end.
--
-- An entry of nobody has the levels 0, so that no reader wants its events. Readers compare `erasures`: entries that they
-- read before it rose may name an agent that is gone.

local root, below = ARGV[1], ARGV[1] .. '/'
local marks = redis.call('HMGET', KEYS[1], 'base', 'erasures')
local base, erasures = tonumber(marks[1] or 0), tonumber(marks[2] or 0)
local from = math.max(tonumber(ARGV[2]) - base, 0)
local rows = redis.call('LRANGE', KEYS[2], from, from + tonumber(ARGV[3]) - 1)
local found = {}
for i = 1, #rows do
  local sound, entry = pcall(cmsgpack.unpack, rows[i])
  local agent = sound and type(entry) == 'table' and entry[1]
  if type(agent) == 'string' and (agent == root or string.sub(agent, 1, #below) == below) then
    found[#found + 1] = {from + i - 1, cmsgpack.pack({'', entry[2], entry[3], 0})}
  end
end
if #found > 0 then
  redis.call('HSET', KEYS[1], 'erasures', erasures + 1)
  for i = 1, #found do redis.call('LSET', KEYS[2], found[i][1], found[i][2]) end
end
return {base + from + #rows, base + redis.call('LLEN', KEYS[2])}
