-- Ends an open job without a result; the fence refuses its worker from then on.
-- KEYS: job, queue, leases, index   ARGV: id, tenant, retention_s
-- include: jobs
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status ~= 'queued' and status ~= 'running' then return status end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'status', 'cancelled', 'updated', text(now()))
redis.call('EXPIRE', KEYS[1], ARGV[3])
announce(KEYS[1], ARGV[2])
return 'ok'
