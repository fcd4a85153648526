-- Counts the open jobs of a kind, and what they cost in thousandths: three numbers, three costs, and nothing is added up.
-- ARGV: kind, tenant ('' for all), serves: only jobs that need no more than this, each between line ends ('' for all jobs)
-- include: jobs/jobs
local found = {}
local function without_others(hash)
  if ARGV[3] == '' then return found end
  for i, place in ipairs(places) do
    for needs, each in pairs(by_needs(place, hash)) do
      if not knows(ARGV[3], needs) then
        found[i] = math.max(0, found[i] - math.max(0, each.num))
        found[i + 3] = math.max(0, found[i + 3] - math.max(0, each.cost))
      end
    end
  end
  return found
end
if ARGV[2] == '' then
  local totals = redis.call('HMGET', totals_of(ARGV[1]), 'num_queue', 'num_leases', 'num_delayed', unpack(places))
  for i, value in ipairs(totals) do found[i] = math.max(0, number(value)) end
  return without_others(totals_of(ARGV[1]))
end
local sums = redis.call('HMGET', sums_of(ARGV[2], ARGV[1]), unpack(places))
for i, place in ipairs(places) do
  found[i] = redis.call('ZCARD', key_of(place, ARGV[2], ARGV[1]))
  found[i + 3] = number(sums[i])
end
return without_others(sums_of(ARGV[2], ARGV[1]))
