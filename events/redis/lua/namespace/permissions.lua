#!lua flags=no-writes
-- Which commands the calling user may not run. Reads and writes nothing.
--
-- KEYS  none: they stand inside the commands, and are not touched
-- ARGV  1 commands  msgpack [[command, argument ...], ...]
-- Returns nil (this server cannot tell) or [number of a refused command, ...], counted from 1.

if not redis.acl_check_cmd then return nil end
local refused = {}
for i, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  -- A command that the server does not know raises here; nobody may run it.
  local known, allowed = pcall(redis.acl_check_cmd, unpack(command))
  if not known or not allowed then refused[#refused + 1] = i end
end
return refused
