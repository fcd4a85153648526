-- Renews a claim and notes how far the work is.
-- KEYS: job, queue, leases, index, turn   ARGV: id, tenant, fence, lease_ms, progress ('' for none), stage, has_stage
-- include: fenced
if not mine or f[1] ~= 'running' then return 'lost' end
local t = now()
redis.call('ZADD', KEYS[3], text(t + ARGV[4] * 1000), ARGV[1])
redis.call('HSET', KEYS[1], 'updated', text(t))
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'progress', ARGV[5]) end
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'stage', ARGV[6]) end
if ARGV[5] ~= '' or ARGV[7] == '1' then announce(KEYS[1], ARGV[2]) end
return 'ok'
