-- Gives out the next job: the tenants take turns, and within a tenant the oldest comes first.
-- KEYS: turn   ARGV: kind, worker, lease_ms, tenant ('' for any), id ('' for any), retention_s
-- include: jobs
local t = now()
local tenants = ARGV[4] ~= '' and {ARGV[4]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  requeue(tenant, ARGV[1], ARGV[6], t)
  local queue, leases = key_of('queue', tenant, ARGV[1]), key_of('leases', tenant, ARGV[1])
  local id = ARGV[5]
  if id == '' then id = redis.call('ZRANGE', queue, 0, 0)[1] end
  if id and redis.call('ZREM', queue, id) == 1 then
    local key = key_of('job', tenant, id)
    redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HINCRBY', key, 'attempt', 1)
    redis.call('HSET', key, 'status', 'running', 'worker', ARGV[2], 'progress', '0', 'stage', '', 'updated', text(t))
    redis.call('ZADD', leases, text(t + ARGV[3] * 1000), id)
    redis.call('ZADD', KEYS[1], 'XX', text(t), tenant)
    announce(key, tenant)
    return redis.call('HGETALL', key)
  end
  if redis.call('EXISTS', queue, leases) == 0 then redis.call('ZREM', KEYS[1], tenant) end
end
return false
