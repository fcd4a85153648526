-- Gives out the next job: the tenants take turns by cost, and within a tenant the oldest comes first.
-- KEYS: answer   ARGV: kind, worker, lease_ms, tenant ('' for any), id ('' for any), retention_s,
--   unbegun (1: for a worker that will begin it), max_running of one tenant (-1: any), serves: what the worker knows,
--   each between line ends ('' for all)
-- include: jobs/jobs
-- include: answers
local said = recall(KEYS[1])
if said then
  local key, fence = said:match('^(%S+) (%d+)$')
  if redis.call('HGET', key, 'fence') == fence then return record(key) end
end
local t, kind, most, serves = now(), ARGV[1], tonumber(ARGV[8]), ARGV[9]
adopt(kind)
hear(kind, t)
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', key_of('due', kind), '-inf', text(t), 'LIMIT', 0, 100)) do
  requeue(tenant, kind, ARGV[6], t)
end
-- Jobs of older releases say nothing of what they need.
local function served(key) return knows(serves, redis.call('HGET', key, 'needs') or '') end
-- Takes a job from the queue of a tenant, and says whether it leaves some there for others. An id whose record is gone
-- leaves the queue on the way.
local function take(tenant)
  local queue, left = key_of('queue', tenant, kind), 0
  while true do
    local id = ARGV[5]
    if id == '' then id = redis.call('ZRANGE', queue, left, left)[1] end
    if not id then return nil, left > 0 end
    local key = key_of('job', tenant, id)
    if known(key) and not served(key) then
      if ARGV[5] ~= '' then return end
      left = left + 1
    else
      local was_there = exit('queue', tenant, kind, id)
      if was_there and known(key) then return id end
      if ARGV[5] ~= '' then return end
    end
  end
end
local function give(tenant, id)
  local key = key_of('job', tenant, id)
  local fence = redis.call('HINCRBY', key, 'fence', 1)
  redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, 'status', 'running', 'worker', ARGV[2], 'progress', '0', 'stage', '', 'updated', text(t),
    'begun', text(t))
  enter('leases', tenant, kind, id, text(t + ARGV[3] * 1000))
  charge(tenant, kind, id)
  if ARGV[7] == '1' then redis.call('HSET', key, 'unbegun', '1') end
  announce(key, tenant)
  remember(KEYS[1], key .. ' ' .. fence)
  return record(key)
end
local function full(tenant) return most >= 0 and redis.call('ZCARD', key_of('leases', tenant, kind)) >= most end
if ARGV[4] ~= '' then
  requeue(ARGV[4], kind, ARGV[6], t)
  local id = not full(ARGV[4]) and take(ARGV[4])
  return id and give(ARGV[4], id)
end
local passed = 0  -- tenants that have all they may have: no more than there are workers
repeat
  local tenant, start = unpack(redis.call('ZRANGE', key_of('turn', kind), passed, passed, 'WITHSCORES'))
  if tenant and full(tenant) then
    passed = passed + 1
  elseif tenant then
    local id, others = take(tenant)
    if id then
      local totals = totals_of(kind)
      redis.call('HSET', totals, 'clock', seconds(math.max(tonumber(start), number(redis.call('HGET', totals, 'clock')))))
      return give(tenant, id)
    end
    if others then
      passed = passed + 1
    else
      redis.call('ZREM', key_of('turn', kind), tenant)  -- its queue is empty
    end
  end
until not tenant
return false
