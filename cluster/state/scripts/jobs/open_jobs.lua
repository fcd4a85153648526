-- The keys of all jobs of a kind that have not ended, wherever they wait: one step, so that none slips past.
-- ARGV: kind
-- include: jobs/jobs
local found = {}
for _, tenant in ipairs(tenants_of(ARGV[1])) do
  for _, place in ipairs(places) do
    for _, id in ipairs(redis.call('ZRANGE', key_of(place, tenant, ARGV[1]), 0, -1)) do
      found[#found + 1] = key_of('job', tenant, id)
    end
  end
end
return found
