#!lua flags=no-writes
-- The server's time; in a cluster that of the node which has the hosts.
--
-- KEYS  1 hosts
-- Returns [seconds, microseconds] since the epoch; nil for a user who may not ask for it.

-- A call that is refused would stand in the server's ACL LOG, with every beat.
return redis.acl_check_cmd and redis.acl_check_cmd('TIME') and redis.call('TIME') or nil
