-- Append events for many agents of one partition: each append whole or not at all, answered on its own.
--
-- KEYS  1 heads      HASH    agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]; level ->
--                            last feed position with an event of it; base -> entries trimmed from the feed   for ever
--       2 directory  HASH    agent -> msgpack [status, agent type, session id, class needed, metadata]  for ever
--       3 feed       LIST    msgpack [agent, first seq, count, levels], one entry an append         for ever
--       4...         LIST    the log of each append's agent, in the order of the batch              for ever
--       then         STRING  snapshots and checkpoints to put, in the order of the batch            their TTL
--                    LIST    or what to add a value to: the partition's episodes                    for ever
--                            or contents that were staged for the agent, and their list             for ever
--       then       ZSET    unfinished: agent -> due in ms; only where an append has a `due`         for ever
--       last       HASH    owners: root agent -> `epoch:host`; only where an append creates its agent for ever
-- ARGV  1 batch      msgpack [[agent, expected, previous, fence, items, levels, updated_at, create, entry|false, puts,
--                    requires|false, due], ...]; puts = [[value, ttl in ms, 0, -1 to add it to a list, or -2 to keep what
--                    was staged], ...];
--                    requires = [[agent, whether it must have a session that has not ended], ...];
--                    due = when the agent's unfinished work is to be looked at, in ms; -1: it has none any more;
--                    a row may end after updated_at, puts or requires, or be [..., updated_at, due];
--                    previous = the digest of the log's last event, or the whole event as the writer knows it
--       2 command    PUBLISH, or SPUBLISH in a cluster
--       3 limit      bytes of events above which a notice carries positions only
--       4... level, its channel, for each level in the batch
-- Returns 0 (all committed, all published), or msgpack [answers, lost]: an answer is 0 (committed) or
-- [status, head, fence, claimed_at]; lost counts notices that the server refused to publish (the events are
-- committed all the same).
--
-- Nearly every batch is plain: events of one level, of agents that stand where their writers believe. The first part
-- is for these, and defines no function: the server runs all of this again for each call, so each function, table and
-- argument is paid by every append. The second part handles every other batch.

local call, pack, sub = redis.call, cmsgpack.pack, string.sub
local PORTION = 4000 -- Lua's stack takes less than 8,000 values, and raised limits may have more

local batch = cmsgpack.unpack(ARGV[1])
local count = #batch
if count == 0 then return 0 end
-- Before the agents, whose paths have a slash: the last feed position of each level. The greatest is the feed's end,
-- also where somebody has removed entries from the list: positions never repeat, and readers find that out.
local front = 4
local fields = {'1', '2', '3', '4'}
for i = 1, count do fields[front + i] = batch[i][1] end
local known = call('HMGET', KEYS[1], unpack(fields))
local stop = 0
for level = 1, front do
  local last = tonumber(known[level])
  if last and last > stop then stop = last end
end

-- A plain batch ---------------------------------------------------------------------------------------------------------

local plain = #ARGV == 5
local writes, feed, rows, size = {}, {}, {}, 0
local dues
local bits = 2 ^ (tonumber(ARGV[4]) or 0)
for i = 1, count do
  local append = batch[i]
  local items = append[5]
  local added = #items
  local sound, head = pcall(cmsgpack.unpack, known[front + i])
  local due = append[8]
  plain = plain and sound and (due == nil or type(due) == 'number') and added > 0 and added <= PORTION
    and type(head) == 'table' and #head == 7 and type(head[2]) == 'number' and type(head[7]) == 'number'
    and head[1] == append[2] and head[3] == sub(append[3], 1, 16) and head[4] == append[4]
  if plain then
    -- One look shows whether the list ends where the head says, and with the event that the writer knows, or at least
    -- with its digest. An empty list is for the second part.
    local length = head[1] - head[2]
    local last = redis.pcall('LRANGE', KEYS[3 + i], length - 1, length)
    plain = length > 0 and #last == 1
      and (last[1] == append[3] or (#append[3] == 16 and sub(last[1], 1, 16) == head[3]))
  end
  if not plain then break end
  local agent, first, largest = append[1], head[1] + 1, head[7]
  for j = 1, added do
    local bytes = #items[j]
    size = size + bytes
    if bytes > largest then largest = bytes end
  end
  head[1], head[3], head[6], head[7] = head[1] + added, sub(items[added], 1, 16), append[7], largest
  writes[2 * i - 1], writes[2 * i] = agent, pack(head)
  feed[i] = pack({agent, first, added, bits})
  rows[i] = {agent, first, items}
  if due then
    dues = dues or {}
    dues[#dues + 1], dues[#dues + 2] = due, agent
  end
end
if plain then
  if dues then
    -- The index of unfinished work before all else: what raises here has written nothing, and what raises after it has
    -- left an entry too many. Those that go come last, for the same reason.
    local i, gone = 1, {}
    while i < #dues do
      if dues[i] < 0 then
        gone[#gone + 1] = dues[i + 1]
      else
        call('ZADD', KEYS[4 + count], dues[i], dues[i + 1])
      end
      i = i + 2
    end
    dues = gone
  end
  -- The feed first: if the key holds something else, or memory has run out, this raises while nothing is written yet.
  local position = stop + count
  call('RPUSH', KEYS[3], unpack(feed))
  for i = 1, count do call('RPUSH', KEYS[3 + i], unpack(batch[i][5])) end
  writes[2 * count + 1], writes[2 * count + 2] = ARGV[4], position
  call('HSET', KEYS[1], unpack(writes))
  if dues and #dues > 0 then redis.pcall('ZREM', KEYS[4 + count], unpack(dues)) end
  local before = tonumber(known[tonumber(ARGV[4])]) or 0
  local message = pack({before, position, size <= tonumber(ARGV[3]) and rows, position - count, bits})
  local sent = redis.pcall(ARGV[2], ARGV[5], message)
  if type(sent) == 'number' then return 0 end
  local answers = {}
  for i = 1, count do answers[i] = 0 end
  return pack({answers, 1})
end

-- Any other batch -------------------------------------------------------------------------------------------------------

for i = 1, count do
  local append = batch[i]
  if type(append[8]) == 'number' then append[8], append[12] = nil, append[8] end
  append.last, append[3] = append[3], sub(append[3], 1, 16)
end

local COMMITTED, DUPLICATE, FENCED, CONFLICT, BEHIND, GONE, CORRUPT, EXISTS, DIVERGED = 0, 1, 2, 3, 4, 5, 6, 7, 8
local UNMET, OWNED, ERASED = 9, 10, 11

-- How many events the list holds; -1 if it is none. One agent's damage must not fail the others of its batch.
local function length_of(log)
  local length = redis.pcall('LLEN', log)
  if type(length) == 'number' then return length end
  if string.find(length.err, 'WRONGTYPE', 1, true) then return -1 end
  return call('LLEN', log)
end

-- The head as it was packed; nil if it is none.
local function head_of(stored)
  local sound, head = pcall(cmsgpack.unpack, stored)
  if not sound or type(head) ~= 'table' then return nil end
  local numbers = type(head[1]) == 'number' and type(head[2]) == 'number' and type(head[5]) == 'number'
  local texts = type(head[3]) == 'string' and type(head[4]) == 'string'
  -- How large the largest event is need not be known.
  local whole = #head == 6 or (#head == 7 and type(head[7]) == 'number')
  if numbers and texts and whole then return head end
  return nil
end

-- Whether the log has, at `seq`, the event that ends this append: its digest vouches for all before it.
local function holds(log, head, seq, items)
  if #items == 0 or seq <= head[2] or seq > head[1] or length_of(log) < 0 then return false end
  local at = seq - head[2] - 1
  local found = call('LRANGE', log, at, at)[1]
  return found ~= nil and sub(found, 1, 16) == sub(items[#items], 1, 16)
end

-- Whether the log has another event than the writer's at the writer's seq. A trimmed event cannot be compared.
local function differs(log, head, append)
  local expected = append[2]
  if expected <= head[2] or length_of(log) < 0 then return false end
  local found = call('LRANGE', log, expected - head[2] - 1, expected - head[2] - 1)[1]
  return found ~= nil and sub(found, 1, 16) ~= append[3]
end

-- Whether an event is the one that the writer knows as the last: by all its bytes, or by its digest if that came alone.
local function is_known(event, append)
  return event == append.last or (#append.last == 16 and sub(event, 1, 16) == append[3])
end

local function check(append, head, log)
  local expected, items = append[2], append[5]
  if not head then
    -- A log that is gone is never created again by a process that remembers it.
    if not append[8] then
      local erased = call('HMGET', KEYS[1], '~' .. string.match(log, '[^:]*$'))[1]
      return erased and ERASED or GONE
    end
    if length_of(log) ~= 0 then return CORRUPT end
    return COMMITTED
  end
  local last = expected + #items
  if head[4] ~= append[4] then
    -- Fenced; but the append may have come through before the other's claim, and only its reply was lost.
    if holds(log, head, last, items) then return DUPLICATE end
    if append[8] then return EXISTS end
    -- A claim must not hide that the log lost, or replaced, events that the writer had.
    if head[1] < expected then return BEHIND end
    if differs(log, head, append) then return DIVERGED end
    return FENCED
  end
  if head[1] == expected and not append[8] then
    if head[3] ~= append[3] then return CORRUPT end
    local length = length_of(log)
    if length < 0 or head[2] + length ~= expected then return CORRUPT end
    if length > 0 and not is_known(call('LRANGE', log, -1, -1)[1], append) then return CORRUPT end
    return COMMITTED
  end
  if holds(log, head, last, items) then return DUPLICATE end
  if append[8] then return EXISTS end
  if head[1] < expected then return BEHIND end
  return CONFLICT
end

-- Agent -> status, as the directory or an accepted append of this batch has it; false where there is no such agent.
local statuses = {}
local function status_in(line)
  local sound, fields = pcall(cmsgpack.unpack, line)
  return sound and type(fields) == 'table' and fields[1] or ''
end

-- The first agent, from 1, that lives where it must not, or does not where it must; nil if there is none.
local function unmet(requires)
  for j = 1, #requires do
    local agent = requires[j][1]
    if statuses[agent] == nil then
      local line = call('HMGET', KEYS[2], agent)[1]
      statuses[agent] = line and status_in(line)
    end
    local lives = statuses[agent] ~= false and statuses[agent] ~= 'terminated'
    if lives ~= requires[j][2] then return j end
  end
  return nil
end

-- Root agent -> its entry in `owners`, as stored or as an accepted append of this batch leaves it; false where there is
-- none. What to write: root agent, entry, ...
local entries, taken = {}, {}

-- The entry under which an append that creates an agent has its tree, and whether another host has the tree: then the
-- entry is that host's. An entry of any other form than `epoch:host` is nobody's.
local function entry_for(append, root)
  if entries[root] == nil then entries[root] = call('HMGET', KEYS[#KEYS], root)[1] end
  local host = string.match(append[4], ':(.*)$') or ''
  local epoch, owner = string.match(entries[root] or '', '^(%d+):(%S*)$')
  if not epoch or #epoch > 15 or #owner > 128 then epoch, owner = '0', '' end
  if owner == host then return entries[root], false end
  if owner ~= '' then return entries[root], true end
  return string.format('%.0f:%s', tonumber(epoch) + 1, host), false
end

-- Everything is checked before the first write: a script has no roll-back.
local answers, accepted, heads = {}, {}, {}
local refused = false
local put = 3 + count
for i = 1, count do
  local append, stored = batch[i], known[front + i]
  local head = stored and head_of(stored)
  local status = CORRUPT
  if head or not stored then status = check(append, head, KEYS[3 + i]) end
  for _, value in ipairs(append[10] or {}) do
    put = put + 1
    -- What was staged has expired, or was erased, since it was written.
    if value[2] == -2 and status == COMMITTED and call('EXISTS', KEYS[put]) == 0 then status = ERASED end
  end
  local root, entry, owned
  if status == COMMITTED and append[8] then
    root = string.match(append[1], '^[^/]+/[^/]+')
    entry, owned = entry_for(append, root)
  end
  local missing = status == COMMITTED and append[11] and unmet(append[11])
  if owned then
    refused = true
    answers[i] = {OWNED, 0, entry, 0}
  elseif missing then
    refused = true
    answers[i] = {UNMET, missing - 1, '', 0}
  elseif status == COMMITTED then
    answers[i] = COMMITTED
    if append[9] then statuses[append[1]] = status_in(append[9]) end
    if #append[5] > 0 then
      if root and entries[root] ~= entry then
        entries[root] = entry
        taken[#taken + 1] = root
        taken[#taken + 1] = entry
      end
      accepted[#accepted + 1] = i
      heads[i] = head or {0, 0, '', append[4], append[7], 0, 0}
    end
  else
    refused = true
    answers[i] = head and {status, head[1], head[4], head[5]} or {status, 0, '', 0}
  end
end
if #accepted == 0 then return refused and pack({answers, 0}) or 0 end

-- The events of a level, as [agent, first seq, [item, ...]] for each stretch of an append, and their size.
local notices, sizes = {}, {}
local function note(level, agent, first, items)
  local size = 0
  for j = 1, #items do size = size + #items[j] end
  local rows = notices[level]
  if rows then
    rows[#rows + 1] = {agent, first, items}
    sizes[level] = sizes[level] + size
  else
    notices[level], sizes[level] = {{agent, first, items}}, size
  end
end

-- Note the stretches of an append whose levels differ; returns the levels as bits.
local function note_stretches(levels, agent, first, items)
  local bits, level, stretch = 0, string.byte(levels), {}
  for j = 1, #items do
    local own = string.byte(levels, j)
    if own ~= level then
      note(level, agent, first + j - 1 - #stretch, stretch)
      level, stretch = own, {}
    end
    stretch[#stretch + 1] = items[j]
    if bits % 2 ^ (own + 1) < 2 ^ own then bits = bits + 2 ^ own end
  end
  note(level, agent, first + #items - #stretch, stretch)
  return bits
end

writes, feed = {}, {}
local lines = {}
for k = 1, #accepted do
  local i = accepted[k]
  local append, head = batch[i], heads[i]
  local agent, items, levels = append[1], append[5], append[6]
  local first, added = head[1] + 1, #items
  head[1], head[3], head[6] = head[1] + added, sub(items[added], 1, 16), append[7]
  for j = 1, head[7] and added or 0 do head[7] = math.max(head[7], #items[j]) end
  writes[2 * k - 1], writes[2 * k] = agent, pack(head)
  if append[9] then
    lines[#lines + 1] = agent
    lines[#lines + 1] = append[9]
  end
  local bits
  if added == 1 or levels == string.rep(sub(levels, 1, 1), added) then
    local level = string.byte(levels)
    note(level, agent, first, items)
    bits = 2 ^ level
  else
    bits = note_stretches(levels, agent, first, items)
  end
  feed[k] = pack({agent, first, added, bits})
end

-- A key that holds something else raises while nothing is written yet: hashes are read first, the lists of the agents
-- were measured above, and the feed is the first that is written. Out of memory, too, is reported at the first write only.
if #lines > 0 then call('HMGET', KEYS[2], lines[1]) end
local AGES = '3155760000000' -- 100 years
put = 3 + count
for i = 1, count do
  for _, value in ipairs(batch[i][10] or {}) do
    put = put + 1
    if value[2] == -1 then call('LLEN', KEYS[put]) end
    -- A write that does no harm without the others, and needs a right that a user may lack.
    if value[2] == -2 and heads[i] then call('PEXPIRE', KEYS[put], AGES, 'GT') end
  end
end
local gone = {}
for k = 1, #accepted do
  local append = batch[accepted[k]]
  local due = append[12]
  if due and due < 0 then
    gone[#gone + 1] = append[1]
  elseif due then
    call('ZADD', KEYS[put + 1], due, append[1])
  end
end
local position = stop + #feed
call('RPUSH', KEYS[3], unpack(feed))
for k = 1, #accepted do
  local i = accepted[k]
  local items = batch[i][5]
  if #items <= PORTION then
    call('RPUSH', KEYS[3 + i], unpack(items))
  else
    for start = 1, #items, PORTION do
      call('RPUSH', KEYS[3 + i], unpack(items, start, math.min(start + PORTION - 1, #items)))
    end
  end
end
for at = 4, #ARGV, 2 do
  if notices[tonumber(ARGV[at])] then
    writes[#writes + 1] = ARGV[at]
    writes[#writes + 1] = position
  end
end
call('HSET', KEYS[1], unpack(writes))
if #lines > 0 then call('HSET', KEYS[2], unpack(lines)) end
if #taken > 0 then call('HSET', KEYS[#KEYS], unpack(taken)) end
if #gone > 0 then redis.pcall('ZREM', KEYS[put + 1], unpack(gone)) end

put = 3 + count
for i = 1, count do
  for _, value in ipairs(batch[i][10] or {}) do
    put = put + 1
    if heads[i] then
      if value[2] > 0 then
        call('SET', KEYS[put], value[1], 'PX', value[2])
      elseif value[2] == -1 then
        call('RPUSH', KEYS[put], value[1])
      elseif value[2] == 0 then
        call('SET', KEYS[put], value[1])
      end
    end
  end
end

-- Last, and under pcall: a user who may not publish must not lose what is already written.
local lost, together = 0, 0
for level in pairs(notices) do together = together + 2 ^ level end
for at = 4, #ARGV, 2 do
  local level = tonumber(ARGV[at])
  local rows = notices[level]
  if rows then
    local body = sizes[level] <= tonumber(ARGV[3]) and rows
    local message = pack({tonumber(known[level]) or 0, position, body, position - #feed, together})
    local sent = redis.pcall(ARGV[2], ARGV[at + 1], message)
    if type(sent) == 'table' and sent.err then lost = lost + 1 end
  end
end
if refused or lost > 0 then return pack({answers, lost}) end
return 0
