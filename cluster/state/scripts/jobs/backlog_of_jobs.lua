-- Counts the open jobs of a kind, and what they cost in thousandths: three numbers, three costs, and nothing is added up.
-- ARGV: kind, tenant ('' for all)
-- include: jobs/jobs
local found = {}
if ARGV[2] == '' then
  local totals = redis.call('HMGET', totals_of(ARGV[1]), 'num_queue', 'num_leases', 'num_delayed', unpack(places))
  for i, value in ipairs(totals) do found[i] = math.max(0, number(value)) end
  return found
end
local sums = redis.call('HMGET', sums_of(ARGV[2], ARGV[1]), unpack(places))
for i, place in ipairs(places) do
  found[i] = redis.call('ZCARD', key_of(place, ARGV[2], ARGV[1]))
  found[i + 3] = number(sums[i])
end
return found
