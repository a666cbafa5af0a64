#!lua flags=no-writes
-- Read events of many agents of one partition, in the order asked for, up to a number of bytes.
--
-- KEYS  1 heads  HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at]   for ever
--       2 bases  HASH  agent -> msgpack [base, digest of the event at base]                     for ever
--       3... log LIST  the events of each span's agent, in the order of the spans             for ever
-- ARGV  1 bytes  stop behind the event that reaches so many bytes
--       then, for each span: agent, first seq wanted, number of events; 0: only the digest of the first
-- Returns [base, head, first seq, [item ...], erasures] for each span up to the one that reached the bytes; where there
-- is no such agent base and head are -1. `erasures` is how often entries of the feed were made nobody's.
-- Damage is that of one agent alone: where its head cannot be read, its base and its list say where the log stands, and
-- a list that is none has no items.

local call = redis.call
local most, size = tonumber(ARGV[1]), 0
local agents = {}
for i = 1, #KEYS - 2 do agents[i] = ARGV[3 * i - 1] end
agents[#agents + 1] = 'erasures'
local heads = call('HMGET', KEYS[1], unpack(agents))
agents[#agents] = nil
local erasures = tonumber(heads[#agents + 1] or 0)

local function items_of(i, first, last)
  local items = redis.pcall('LRANGE', KEYS[2 + i], first, last)
  return items.err and {} or items
end

local function base_of(i)
  local known = call('HMGET', KEYS[2], agents[i])[1]
  local sound, base = pcall(cmsgpack.unpack, known or '')
  if known and sound and type(base) == 'table' and type(base[1]) == 'number' then return base[1], base[2] end
  return 0
end

local function stands_at(i)
  local sound, head = pcall(cmsgpack.unpack, heads[i])
  sound = sound and type(head) == 'table' and type(head[1]) == 'number' and type(head[2]) == 'number'
  if sound and type(head[6]) == 'number' and type(head[7] or 0) == 'number' then return head end
  local base, length = base_of(i), redis.pcall('LLEN', KEYS[2 + i])
  return {base + (type(length) == 'number' and length or 0), base}
end

local function digest_at(i, base, seq)
  if seq > base then
    local item = items_of(i, seq - base - 1, seq - base - 1)[1]
    return item and string.sub(item, 1, 16)
  end
  if seq ~= base or base == 0 then return nil end
  local known, digest = base_of(i)
  return known == base and digest
end

local found = {}
for i = 1, #agents do
  if size >= most then break end
  found[i] = {-1, -1, tonumber(ARGV[3 * i]), {}, erasures}
  if heads[i] then
    local head = stands_at(i)
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
        local part = items_of(i, at, math.min(at + step - 1, last))
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
    found[i] = {base, head[1], first, items, erasures}
  end
end
return found
