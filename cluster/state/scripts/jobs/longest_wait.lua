-- How long the job has waited that nobody has begun for the longest time, in microseconds; 0 when none waits.
-- ARGV: kind
-- include: jobs/jobs
local t, longest = now(), 0
local function look(tenant, id, unbegun_only)
  local f = redis.call('HMGET', key_of('job', tenant, id), 'created', 'unbegun')
  if f[1] and (f[2] or not unbegun_only) then longest = math.max(longest, t - tonumber(f[1])) end
end
for _, tenant in ipairs(tenants_of(ARGV[1])) do
  for _, id in ipairs(redis.call('ZRANGE', key_of('queue', tenant, ARGV[1]), 0, 0)) do look(tenant, id) end
  -- These are not by age: an old job waits longest to be tried again. A hundred tell enough.
  for _, id in ipairs(redis.call('ZREVRANGE', key_of('delayed', tenant, ARGV[1]), 0, 99)) do look(tenant, id) end
  for _, id in ipairs(redis.call('ZRANGE', key_of('leases', tenant, ARGV[1]), 0, 99)) do look(tenant, id, true) end
end
return text(longest)
