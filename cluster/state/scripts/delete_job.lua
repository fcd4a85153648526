-- Forgets a job that is not running.
-- KEYS: job, queue, leases, index   ARGV: id
if redis.call('HGET', KEYS[1], 'status') == 'running' then return 'running' end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 'ok'
