-- Take agents of one partition over: whoever held them before is fenced from now on.
--
-- KEYS  1 heads   HASH  agent -> msgpack [head, base, digest, fence, claimed_at, updated_at, largest]   for ever
--       2...      LIST  the log of each agent                                                           for ever
-- ARGV  1 agents  msgpack [agent, ...]
--       2 owner   identifies the claiming process; the new fence is `epoch:owner`
--       3 now     the claimer's clock in µs
-- Returns msgpack: for each agent false (it does not exist) or [its head, the length of its list].

local agents = cmsgpack.unpack(ARGV[1])
local known = redis.call('HMGET', KEYS[1], unpack(agents))
local answers, heads = {}, {}
for i, agent in ipairs(agents) do
  answers[i] = false
  if known[i] then
    local head = cmsgpack.unpack(known[i])
    -- The epoch alone is no fence: after a failover two primaries can issue the same one. The owner tells them apart.
    local epoch = tonumber(string.match(head[4], '^(%d+):')) + 1
    head[4] = string.format('%.0f:%s', epoch, ARGV[2])
    head[5] = tonumber(ARGV[3])
    heads[#heads + 1] = agent
    heads[#heads + 1] = cmsgpack.pack(head)
    answers[i] = {head, redis.call('LLEN', KEYS[1 + i])}
  end
end
if #heads > 0 then redis.call('HSET', KEYS[1], unpack(heads)) end
return cmsgpack.pack(answers)
