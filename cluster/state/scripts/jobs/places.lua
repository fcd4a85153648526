-- Where the open jobs of a tenant are ('queue', 'leases' or 'delayed'), what they cost, and whose turn it is.
--
-- Turns go by cost (start-time fair queueing): a tenant's claims add up to the seconds it has been ``served``, and the
-- tenant that has been served least comes first. ``clock`` is where the tenant began that came last. Who comes back
-- begins there, so nobody saves up turns by staying away. Each step takes O(log n) of n tenants.
local places = {'queue', 'leases', 'delayed'}
local function number(found) return tonumber(found or 0) or 0 end
local function seconds(n) return string.format('%.3f', n) end
local function cost_of(tenant, id)  -- in thousandths
  return math.floor(number(redis.call('HGET', key_of('job', tenant, id), 'cost')) * 1000 + 0.5)
end
-- include: jobs/needs
-- Sums of costs of a tenant, so that nobody has to add them up. Made from what is there when an older version kept none.
local function sums_of(tenant, kind)
  local sums = key_of('backlog', tenant, kind)
  if redis.call('EXISTS', sums) == 0 then
    for _, place in ipairs(places) do
      local sum = 0
      for _, id in ipairs(redis.call('ZRANGE', key_of(place, tenant, kind), 0, -1)) do sum = sum + cost_of(tenant, id) end
      redis.call('HSET', sums, place, text(sum))
      recount_needs(place, tenant, kind, sums)
    end
  end
  return sums
end
local function tenants_of(kind)
  local found, seen = {}, {}
  for _, name in ipairs({'turn', 'due'}) do
    for _, tenant in ipairs(redis.call('ZRANGE', key_of(name, kind), 0, -1)) do
      if not seen[tenant] then found[#found + 1] = tenant end
      seen[tenant] = true
    end
  end
  return found
end
-- Numbers and costs of the open jobs of all tenants, made from those of each.
local function recount(kind)
  local totals, tenants = key_of('totals', kind), tenants_of(kind)
  for _, place in ipairs(places) do
    local num, sum = 0, 0
    drop_needs(place, totals)
    for _, tenant in ipairs(tenants) do
      local here, sums = redis.call('ZCARD', key_of(place, tenant, kind)), sums_of(tenant, kind)
      num = num + here
      sum = sum + number(redis.call('HGET', sums, place))
      if num_with_needs(place, sums) ~= here then recount_needs(place, tenant, kind, sums) end
      for needs, each in pairs(by_needs(place, sums)) do count_needs(place, totals, needs, each.num, each.cost) end
    end
    redis.call('HSET', totals, place, text(sum), 'num_' .. place, text(num))
  end
end
local function totals_of(kind)
  local totals = key_of('totals', kind)
  if redis.call('EXISTS', totals) == 0 then recount(kind) end
  return totals
end
local function count(place, tenant, kind, num, cost, needs)
  local sums, totals = sums_of(tenant, kind), totals_of(kind)
  redis.call('HINCRBY', sums, place, text(cost))
  redis.call('HINCRBY', totals, place, text(cost))
  redis.call('HINCRBY', totals, 'num_' .. place, text(num))
  if not needs then return end
  count_needs(place, sums, needs, num, cost)
  count_needs(place, totals, needs, num, cost)
end
-- All that is left in a place leaves it.
local function count_none(place, tenant, kind, num)
  local sums, totals = sums_of(tenant, kind), totals_of(kind)
  count(place, tenant, kind, 0 - num, 0 - number(redis.call('HGET', sums, place)))
  for needs, each in pairs(by_needs(place, sums)) do count_needs(place, totals, needs, 0 - each.num, 0 - each.cost) end
  if place == 'queue' then drop_lines(tenant, kind, sums) end
  drop_needs(place, sums)
end
-- A tenant whose queue is no longer empty takes its place among the others.
local function line_up(tenant, kind)
  local turn, totals = key_of('turn', kind), totals_of(kind)
  if redis.call('EXISTS', turn, key_of('due', kind)) == 0 then  -- nobody competes: what was served is history
    redis.call('HSET', totals, 'clock', redis.call('HGET', totals, 'latest') or '0')
  end
  local start = math.max(number(redis.call('HGET', sums_of(tenant, kind), 'served')), number(redis.call('HGET', totals, 'clock')))
  redis.call('ZADD', turn, 'NX', seconds(start), tenant)
end
-- Has a tenant looked at no later than ``score``: ``due`` is never later than the first end of its leases and waits.
local function expect(tenant, kind, score) redis.call('ZADD', key_of('due', kind), 'LT', score, tenant) end
local function watch(tenant, kind)
  local due, first = key_of('due', kind), nil
  for _, place in ipairs({'leases', 'delayed'}) do
    local head = redis.call('ZRANGE', key_of(place, tenant, kind), 0, 0, 'WITHSCORES')
    if head[2] and (not first or tonumber(head[2]) < first) then first = tonumber(head[2]) end
  end
  if first then redis.call('ZADD', due, text(first), tenant) else redis.call('ZREM', due, tenant) end
end
local function enter(place, tenant, kind, id, score)
  sums_of(tenant, kind)
  totals_of(kind)
  if redis.call('ZADD', key_of(place, tenant, kind), score, id) == 0 then return end
  local needs = needs_of(tenant, id)
  count(place, tenant, kind, 1, cost_of(tenant, id), needs)
  if needs and place == 'queue' then redis.call('ZADD', line_of(tenant, kind, needs), score, id) end
  if place == 'queue' then line_up(tenant, kind) else expect(tenant, kind, score) end
end
local function exit(place, tenant, kind, id)
  local key = key_of(place, tenant, kind)
  sums_of(tenant, kind)
  totals_of(kind)
  if redis.call('ZREM', key, id) == 0 then return false end
  if redis.call('EXISTS', key) == 1 then
    local needs = needs_of(tenant, id)
    count(place, tenant, kind, -1, 0 - cost_of(tenant, id), needs)
    if needs and place == 'queue' then redis.call('ZREM', line_of(tenant, kind, needs), id) end
    return true
  end
  -- an empty place has no cost: this also ends what records that vanished have left in the sum
  count_none(place, tenant, kind, 1)
  if place == 'queue' then
    redis.call('ZREM', key_of('turn', kind), tenant)
  elseif redis.call('EXISTS', key_of('leases', tenant, kind), key_of('delayed', tenant, kind)) == 0 then
    redis.call('ZREM', key_of('due', kind), tenant)
  end
  return true
end
-- The open jobs of a tenant that is no more.
local function abandon(tenant, kind)
  local sums = sums_of(tenant, kind)
  for _, place in ipairs(places) do
    local key = key_of(place, tenant, kind)
    count_none(place, tenant, kind, redis.call('ZCARD', key))
    redis.call('DEL', key)
  end
  redis.call('DEL', sums)
  redis.call('ZREM', key_of('turn', kind), tenant)
  redis.call('ZREM', key_of('due', kind), tenant)
end
-- What a claim adds to the seconds that a tenant has been served.
local function charge(tenant, kind, id)
  local sums, totals = sums_of(tenant, kind), totals_of(kind)
  local start = math.max(number(redis.call('HGET', sums, 'served')), number(redis.call('HGET', totals, 'clock')))
  local served = start + math.max(1, cost_of(tenant, id)) / 1000
  redis.call('HSET', sums, 'served', seconds(served))
  redis.call('ZADD', key_of('turn', kind), 'XX', seconds(served), tenant)
  redis.call('HSET', totals, 'latest', seconds(math.max(served, number(redis.call('HGET', totals, 'latest')))))
end
-- Takes back the part of it that was not served after all.
local function refund(tenant, kind, id, part)
  local sums = sums_of(tenant, kind)
  local served = number(redis.call('HGET', sums, 'served')) - math.max(1, cost_of(tenant, id)) / 1000 * part
  local clock = number(redis.call('HGET', totals_of(kind), 'clock'))
  redis.call('HSET', sums, 'served', seconds(served))
  redis.call('ZADD', key_of('turn', kind), 'XX', seconds(math.max(served, clock)), tenant)
end
-- The part of a claimed job that is not done.
local function rest_of(key) return 1 - math.min(1, number(redis.call('HGET', key, 'progress'))) end
-- Older versions kept all tenants with open jobs in ``turn``, by the time of their last turn, which is far above any sum
-- of seconds.
local function adopt(kind)
  local turn = key_of('turn', kind)
  local last = redis.call('ZREVRANGE', turn, 0, 0, 'WITHSCORES')
  if not last[2] or tonumber(last[2]) < 1e13 then return end
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', turn, 1e13, '+inf')) do
    watch(tenant, kind)
    redis.call('ZREM', turn, tenant)
    if redis.call('EXISTS', key_of('queue', tenant, kind)) == 1 then line_up(tenant, kind) end
  end
end
