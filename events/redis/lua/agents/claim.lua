#!lua flags=allow-oom
-- Take agents of one partition over: the process that held them before is fenced from now on. Runs also at `maxmemory`:
-- a head that is written again takes no room, and without a claim no agent could be read.
--
-- KEYS  1 heads   HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]   for ever
--       2...      LIST  the log of each agent                                                           for ever
-- ARGV  1 agents  msgpack [agent, ...]
--       2 owner   identifies the claiming process; the new fence is `epoch:owner`
--       3 now     the claimer's clock in µs
-- Returns msgpack: for each agent false (it does not exist), true (its head is damaged, and stays as it is), or [its
-- head, the length of its list; -1 if the key holds something else].

local agents = cmsgpack.unpack(ARGV[1])
local known = redis.call('HMGET', KEYS[1], unpack(agents))
local answers, heads = {}, {}
for i, agent in ipairs(agents) do
  answers[i] = false
  if known[i] then
    local sound, head = pcall(cmsgpack.unpack, known[i])
    sound = sound and type(head) == 'table' and type(head[1]) == 'number' and type(head[2]) == 'number'
      and type(head[3]) == 'string' and type(head[4]) == 'string' and type(head[7] or 0) == 'number'
    local epoch = sound and tonumber(string.match(head[4], '^(%d+):'))
    answers[i] = true
    if epoch then
      -- The epoch alone is no fence: after a failover two primaries can issue the same one. The owner differs.
      head[4] = string.format('%.0f:%s', epoch + 1, ARGV[2])
      head[5] = tonumber(ARGV[3])
      heads[#heads + 1] = agent
      heads[#heads + 1] = cmsgpack.pack(head)
      local length = redis.pcall('LLEN', KEYS[1 + i])
      answers[i] = {head, type(length) == 'number' and length or -1}
    end
  end
end
if #heads > 0 then redis.call('HSET', KEYS[1], unpack(heads)) end
return cmsgpack.pack(answers)
