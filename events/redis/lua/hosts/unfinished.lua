#!lua flags=no-writes
-- The next agents of a partition with unfinished work that is due, in the order of due time and path, and who has them.
--
-- KEYS  1 unfinished  ZSET  agent -> due in ms                                                            for ever
--       2 owners      HASH  root agent -> `epoch:host`; `epoch:`, or any other form: nobody's              for ever
-- ARGV  1 until  in ms; '' for the server's clock
--       2 now    the caller's clock in ms, for a user who may not ask for the server's
--       3 limit
--       4 due, 5 agent   that the page before has ended with; '' for the first page
-- Returns [until, [agent, due, entry in `owners` or false, ...], due of the next agent that is not due yet or false].
-- An agent that stays there with its due time is on some page; one that changes meanwhile may be on two, or on none.

local call = redis.call
local now = ARGV[1]
if now == '' then
  -- A call that is refused would stand in the server's ACL LOG, every few seconds.
  local time = redis.acl_check_cmd and redis.acl_check_cmd('TIME') and call('TIME')
  now = time and string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) or ARGV[2]
end

local found
local rank = ARGV[5] ~= '' and call('ZRANK', KEYS[1], ARGV[5])
if rank then
  found = call('ZRANGE', KEYS[1], rank, rank + ARGV[3], 'WITHSCORES')
  if found[2] == ARGV[4] then
    table.remove(found, 1)
    table.remove(found, 1)
  else
    found = nil -- it has another due time now
  end
end
if not found then
  local from = ARGV[4] == '' and '-inf' or ARGV[4]
  found = call('ZRANGE', KEYS[1], from, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
end

local roots, rows, later = {}, {}, false
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) > tonumber(now) then
    later = found[i + 1]
    break
  end
  roots[#roots + 1] = string.match(found[i], '^[^/]+/[^/]+') or found[i]
  rows[#rows + 1] = found[i]
  rows[#rows + 1] = found[i + 1]
end
if #roots == 0 then return {now, rows, later} end
local owners, answer = call('HMGET', KEYS[2], unpack(roots)), {}
for i = 1, #roots do
  answer[3 * i - 2], answer[3 * i - 1], answer[3 * i] = rows[2 * i - 1], rows[2 * i], owners[i]
end
return {now, answer, later}
