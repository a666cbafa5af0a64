#!lua flags=allow-oom
-- Say whether the log has the last events of appends of one partition, and write on this connection.
--
-- WAIT and WAITAOF speak of what their own connection has written. The appends came on another one, and maybe on
-- another server: so their digests are looked for here, and what is written here stands behind them in the one stream
-- of the server's writes. The server may be full of memory: the value written is the one that is there.
--
-- KEYS  1 heads      HASH    agent -> msgpack [head, base, digest, fence, ...]                        for ever
--       2...         LIST    the log of each append's agent, in the order of the appends            for ever
-- ARGV  1 appends    msgpack [[agent, seq, digest], ...]
-- Returns a number for each append: 1 (it is there), 0 (it is not), 2 (it was trimmed since, or the head is damaged).

local THERE, LACKING, UNKNOWN = 1, 0, 2

local function look(stored, log, seq, digest)
  if not stored then return LACKING end
  local sound, head = pcall(cmsgpack.unpack, stored)
  if not sound or type(head) ~= 'table' or type(head[1]) ~= 'number' or type(head[2]) ~= 'number' then return UNKNOWN end
  if seq > head[1] then return LACKING end
  if seq <= head[2] then return UNKNOWN end
  local at = seq - head[2] - 1
  local found = redis.pcall('LRANGE', log, at, at)
  if found.err or not found[1] then return UNKNOWN end
  return string.sub(found[1], 1, 16) == digest and THERE or LACKING
end

local appends, answers = cmsgpack.unpack(ARGV[1]), {}
local agent, line
for i = 1, #appends do
  local append = appends[i]
  local stored = redis.call('HMGET', KEYS[1], append[1])[1]
  answers[i] = look(stored, KEYS[1 + i], append[2], append[3])
  if answers[i] == THERE then agent, line = append[1], stored end
end
if agent then redis.call('HSET', KEYS[1], agent, line) end
return answers
