-- Gives out the next job: the tenants take turns, and within a tenant the oldest comes first.
-- KEYS: turn, answer   ARGV: kind, worker, lease_ms, tenant ('' for any), id ('' for any), retention_s,
--   unbegun (1: for a worker that will begin it), max_running of one tenant (-1: any)
-- include: jobs
-- include: answers
local said = recall(KEYS[2])
if said then
  local key, fence = said:match('^(%S+) (%d+)$')
  if redis.call('HGET', key, 'fence') == fence then return record(key) end
end
local t = now()
hear(ARGV[1], t)
-- Takes a job from the queue of a tenant. An id whose record is gone leaves the queue on the way.
local function take(tenant)
  local queue = key_of('queue', tenant, ARGV[1])
  repeat
    local id = ARGV[5]
    if id == '' then id = redis.call('ZRANGE', queue, 0, 0)[1] end
    if not id or not exit('queue', tenant, ARGV[1], id) then return end
    if known(key_of('job', tenant, id)) then return id end
  until ARGV[5] ~= ''
end
local tenants = ARGV[4] ~= '' and {ARGV[4]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  requeue(tenant, ARGV[1], ARGV[6], t)
  local leases = key_of('leases', tenant, ARGV[1])
  local most = tonumber(ARGV[8])
  local id = (most < 0 or redis.call('ZCARD', leases) < most) and take(tenant)
  if id then
    local key = key_of('job', tenant, id)
    local fence = redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HINCRBY', key, 'attempt', 1)
    redis.call('HSET', key, 'status', 'running', 'worker', ARGV[2], 'progress', '0', 'stage', '', 'updated', text(t))
    enter('leases', tenant, ARGV[1], id, text(t + ARGV[3] * 1000))
    redis.call('ZADD', KEYS[1], 'XX', text(t), tenant)
    if ARGV[7] == '1' then redis.call('HSET', key, 'unbegun', '1') end
    announce(key, tenant)
    remember(KEYS[2], key .. ' ' .. fence)
    return record(key)
  end
  if redis.call('EXISTS', key_of('queue', tenant, ARGV[1]), leases, key_of('delayed', tenant, ARGV[1])) == 0 then
    redis.call('ZREM', KEYS[1], tenant)
  end
end
return false
