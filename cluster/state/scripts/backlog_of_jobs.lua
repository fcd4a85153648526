-- Counts the open jobs of a kind.
-- KEYS: turn   ARGV: kind, tenant ('' for all)
local queued, running, delayed, cost = 0, 0, 0, 0
local tenants = ARGV[2] ~= '' and {ARGV[2]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  local ids = redis.call('ZRANGE', key_of('queue', tenant, ARGV[1]), 0, -1)
  queued = queued + #ids
  running = running + redis.call('ZCARD', key_of('leases', tenant, ARGV[1]))
  delayed = delayed + redis.call('ZCARD', key_of('delayed', tenant, ARGV[1]))
  for _, id in ipairs(ids) do
    cost = cost + tonumber(redis.call('HGET', key_of('job', tenant, id), 'cost') or '0')
  end
end
return {queued, running, delayed, tostring(cost)}
