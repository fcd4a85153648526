-- How long the job has waited that nobody has begun for the longest time, in microseconds; 0 when none waits.
-- ARGV: kind
-- include: jobs
local t, longest = now(), 0
for _, tenant in ipairs(tenants_of(ARGV[1])) do
  for _, place in ipairs({'queue', 'delayed'}) do
    local id = redis.call('ZRANGE', key_of(place, tenant, ARGV[1]), 0, 0)[1]
    local created = id and redis.call('HGET', key_of('job', tenant, id), 'created')
    if created then longest = math.max(longest, t - tonumber(created)) end
  end
end
return text(longest)
