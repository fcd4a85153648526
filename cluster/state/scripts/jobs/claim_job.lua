-- Gives out the next job: the tenants take turns by cost, and within a tenant the oldest comes first.
-- KEYS: answer   ARGV: kind, worker, lease_ms, tenant ('' for any), id ('' for any), retention_s,
--   unbegun (1: for a worker that will begin it), max_running of one tenant (-1: any), serves: what the worker knows,
--   each between line ends ('' for all), tenants to pass over
-- Answers {'more', tenants passed over} where it has looked at so many that others must have a turn at the store.
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
-- What waits by its needs; made anew where another release has queued or taken jobs without it.
local function lines_of(tenant)
  local sums, queue, num = sums_of(tenant, kind), key_of('queue', tenant, kind), 0
  local lines = by_needs('queue', sums)
  for needs in pairs(lines) do num = num + redis.call('ZCARD', line_of(tenant, kind, needs)) end
  if num == redis.call('ZCARD', queue) then return lines end
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if not known(key_of('job', tenant, id)) then exit('queue', tenant, kind, id) end
  end
  recount_needs('queue', tenant, kind, sums)
  return by_needs('queue', sums)
end
-- The oldest job of a tenant that the worker can do, and its line. It takes as many steps as there are different needs.
local function oldest(tenant)
  local id, first, line
  for needs in pairs(lines_of(tenant)) do
    if knows(serves, needs) then
      local key = line_of(tenant, kind, needs)
      local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
      local since = tonumber(head[2])
      if since and (not first or since < first or (since == first and head[1] < id)) then
        id, first, line = head[1], since, key
      end
    end
  end
  return id, line
end
-- Takes a job from the queue of a tenant, and says whether it leaves some there for others. An id whose record is gone
-- leaves the queue on the way.
local function take(tenant)
  if ARGV[5] ~= '' then
    local key = key_of('job', tenant, ARGV[5])
    if known(key) and not served(key) then return end
    return exit('queue', tenant, kind, ARGV[5]) and known(key) and ARGV[5] or nil
  end
  while true do
    local id, line = oldest(tenant)
    if not id then return nil, redis.call('EXISTS', key_of('queue', tenant, kind)) == 1 end
    exit('queue', tenant, kind, id)
    redis.call('ZREM', line, id)
    if known(key_of('job', tenant, id)) then return id end
  end
end
-- Whether all that waits is for others, whoever's it is.
local function all_for_others()
  local totals, num = totals_of(kind), 0
  for needs, each in pairs(by_needs('queue', totals)) do
    if each.num > 0 and knows(serves, needs) then return false end
    num = num + each.num
  end
  return num == number(redis.call('HGET', totals, 'num_queue'))
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
if all_for_others() then return false end
local passed = tonumber(ARGV[10])  -- tenants that have all they may have, or nothing for this worker
local last = passed + 500
repeat
  if passed == last then return {'more', passed} end
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
