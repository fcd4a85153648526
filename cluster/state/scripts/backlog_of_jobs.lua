-- Counts the open jobs of a kind, and what they cost in thousandths: by tenants, not by jobs.
-- KEYS: turn   ARGV: kind, tenant ('' for all)
-- include: jobs
local places = {'queue', 'leases', 'delayed'}
local found = {0, 0, 0, 0, 0, 0}
local tenants = ARGV[2] ~= '' and {ARGV[2]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  local sums = redis.call('HMGET', sums_of(tenant, ARGV[1]), unpack(places))
  for i, place in ipairs(places) do
    found[i] = found[i] + redis.call('ZCARD', key_of(place, tenant, ARGV[1]))
    found[i + 3] = found[i + 3] + sums[i]
  end
end
return found
