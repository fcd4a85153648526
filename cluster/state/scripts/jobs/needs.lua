-- What jobs need their workers to know, and numbers and costs of the open jobs by that: fields of the same hashes as the
-- sums of all, named after the place and the needs. An older release leaves them alone; the next recount mends that.
--
-- Whether who knows all of ``serves``, each between line ends, knows all that is needed. Who says nothing knows all.
local function knows(serves, needs)
  for need in needs:gmatch('[^\n]+') do
    if serves ~= '' and not serves:find('\n' .. need .. '\n', 1, true) then return false end
  end
  return true
end
-- The needs of a job, '' for none; nil when its record is gone.
local function needs_of(tenant, id)
  local f = redis.call('HMGET', key_of('job', tenant, id), 'id', 'needs')
  return f[1] and (f[2] or '')
end
local function count_needs(place, hash, needs, num, cost)
  redis.call('HINCRBY', hash, place .. '\n' .. needs, text(cost))
  redis.call('HINCRBY', hash, 'num_' .. place .. '\n' .. needs, text(num))
end
-- Needs -> number and cost of the jobs in a place.
local function by_needs(place, hash)
  local found, fields = {}, redis.call('HGETALL', hash)
  for i = 1, #fields, 2 do
    local what, needs = fields[i]:match('^([^\n]+)\n(.*)$')
    if what == place or what == 'num_' .. place then
      found[needs] = found[needs] or {num = 0, cost = 0}
      found[needs][what == place and 'cost' or 'num'] = number(fields[i + 1])
    end
  end
  return found
end
local function num_with_needs(place, sums)
  local num = 0
  for _, each in pairs(by_needs(place, sums)) do num = num + each.num end
  return num
end
-- The waiting jobs of a tenant that need the same: the queue again, so that who cannot do them need not read them.
local function line_of(tenant, kind, needs) return key_of('line', tenant, kind, redis.sha1hex(needs)) end
local function drop_lines(tenant, kind, sums)
  for needs in pairs(by_needs('queue', sums)) do redis.call('DEL', line_of(tenant, kind, needs)) end
end
local function drop_needs(place, hash)
  for needs in pairs(by_needs(place, hash)) do
    redis.call('HDEL', hash, place .. '\n' .. needs, 'num_' .. place .. '\n' .. needs)
  end
end
local function recount_needs(place, tenant, kind, sums)
  if place == 'queue' then drop_lines(tenant, kind, sums) end
  drop_needs(place, sums)
  local found = redis.call('ZRANGE', key_of(place, tenant, kind), 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local needs = needs_of(tenant, found[i])
    if needs then
      count_needs(place, sums, needs, 1, cost_of(tenant, found[i]))
      if place == 'queue' then redis.call('ZADD', line_of(tenant, kind, needs), found[i + 1], found[i]) end
    end
  end
end
