-- A worker begins what was claimed for it; answers {'ok', the job} or {'lost'}.
-- KEYS: job, queue, leases, index   ARGV: id, tenant, fence, worker, lease_ms, stage
-- include: jobs/fenced
if not mine or f[1] ~= 'running' then return {'lost'} end
local t = now()
redis.call('ZADD', KEYS[3], text(t + ARGV[5] * 1000), ARGV[1])
expect(ARGV[2], kind, text(t + ARGV[5] * 1000))
if redis.call('HDEL', KEYS[1], 'unbegun') == 1 then
  redis.call('HSET', KEYS[1], 'worker', ARGV[4], 'stage', ARGV[6], 'updated', text(t), 'begun', text(t))
  announce(KEYS[1], ARGV[2])
end
return {'ok', record(KEYS[1])}
