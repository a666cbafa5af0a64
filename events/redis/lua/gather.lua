#!lua flags=no-writes
-- Read events of many agents of one partition, in the order asked for, up to a number of bytes.
--
-- KEYS  1 heads  HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at]   for ever
--       2 bases  HASH  agent -> msgpack [base, digest of the event at base]                     for ever
--       3... log LIST  the events of each span's agent, in the order of the spans             for ever
-- ARGV  1 bytes  stop behind the event that reaches so many bytes
--       then, for each span: agent, first seq wanted, number of events; 0: only the digest of the first
-- Returns [base, head, first seq, [item ...]] for each span up to the one that reached the bytes; false: no such agent.

local call = redis.call
local most, size = tonumber(ARGV[1]), 0
local agents = {}
for i = 1, #KEYS - 2 do agents[i] = ARGV[3 * i - 1] end
local heads = call('HMGET', KEYS[1], unpack(agents))

local function digest_at(i, base, seq)
  if seq > base then
    local item = call('LRANGE', KEYS[2 + i], seq - base - 1, seq - base - 1)[1]
    return item and string.sub(item, 1, 16)
  end
  local known = seq == base and base > 0 and call('HMGET', KEYS[2], agents[i])[1]
  return known and cmsgpack.unpack(known)[2]
end

local found = {}
for i = 1, #agents do
  if size >= most then break end
  found[i] = false
  if heads[i] then
    local head = cmsgpack.unpack(heads[i])
    local base, from, count = head[2], tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
    local first = math.max(from, base + 1)
    local items = {}
    if count == 0 then
      items[1] = digest_at(i, base, from) or nil
    else
      -- In small steps: many of the largest events would take far more memory than may be returned. At once where
      -- none of them is known to be so large.
      local largest = tonumber(head[7]) or 0
      local safe = largest > 0 and math.floor((most - size) / largest) or 0
      local at, last, step, kept = first - base - 1, from + count - base - 2, math.max(8, safe), 0
      while at <= last and size < most do
        local part = call('LRANGE', KEYS[2 + i], at, math.min(at + step - 1, last))
        if #part == 0 then break end
        if kept == 0 then items = part end
        for j = 1, #part do
          if size < most then
            kept = kept + 1
            size = size + #part[j]
            items[kept] = part[j]
          elseif items == part then
            items[j] = nil
          end
        end
        at, step = at + step, math.max(32, safe)
      end
    end
    found[i] = {base, head[1], first, items}
  end
end
return found
