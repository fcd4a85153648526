-- Queues a job, once per id and once per idempotency key; answers {outcome, the job where there is one}.
-- KEYS: job, idempotency ('' for none), tenants, queue, leases, index, delayed, files, slots of uploads, places of uploads
-- ARGV: id, tenant, kind, request, fingerprint, max_attempts, idempotency_s, max_open (-1: any), cost,
--   open jobs of all tenants up to which files are kept, the slot and the place of the upload ('' for none),
--   where it comes from, what its worker must know (a line each), then name and content of each file
-- include: jobs/jobs
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then return {'no-tenant'} end
-- The job, or the one before, counts as open from now on; so its upload counts no more.
local function arrived(outcome, key)
  redis.call('ZREM', KEYS[9], ARGV[11])
  redis.call('ZREM', KEYS[10], ARGV[12])
  return {outcome, record(key)}
end
local own = redis.call('HMGET', KEYS[1], 'id', 'fingerprint')
if own[1] then  -- asked again, because the first answer was lost
  return own[2] == ARGV[5] and arrived('created', KEYS[1]) or {'exists'}
end
if KEYS[2] ~= '' then
  local f = redis.call('HMGET', KEYS[2], 'job', 'fingerprint')
  local before = f[1] and key_of('job', ARGV[2], f[1])
  if before and known(before) then
    if f[2] ~= ARGV[5] then return {'conflict'} end
    -- a render that failed may be asked for again; the key then stands for the new one
    if ARGV[3] ~= 'render' or redis.call('HGET', before, 'status') ~= 'failed' then return arrived('same', before) end
  end
end
if redis.call('EXISTS', key_of('maintenance')) == 1 then return {'maintenance'} end
local open = redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]) + redis.call('ZCARD', KEYS[7])
if tonumber(ARGV[8]) >= 0 and open >= tonumber(ARGV[8]) then return {'quota'} end
local has_files = #ARGV > 14
if has_files then
  local open_of_all = 0
  for _, num in ipairs(redis.call('HMGET', totals_of(ARGV[3]), 'num_queue', 'num_leases', 'num_delayed')) do
    open_of_all = open_of_all + number(num)
  end
  if open_of_all >= tonumber(ARGV[10]) then return {'no-room'} end
end
local t = now()
tidy(ARGV[2], ARGV[3], t)
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'tenant', ARGV[2], 'kind', ARGV[3], 'status', 'queued', 'progress', '0',
  'stage', '', 'request', ARGV[4], 'attempt', '0', 'max_attempts', ARGV[6], 'fence', '0', 'worker', '',
  'cost', ARGV[9], 'created', text(t), 'updated', text(t), 'fingerprint', ARGV[5],
  'origin', ARGV[13])
if ARGV[14] ~= '' then redis.call('HSET', KEYS[1], 'needs', ARGV[14]) end
enter('queue', ARGV[2], ARGV[3], ARGV[1], text(t))
if has_files then
  redis.call('HSET', KEYS[8], unpack(ARGV, 15))
  redis.call('EXPIRE', KEYS[8], 30 * 86400)  -- far beyond any wait: a release that knows no files leaves them behind
end
redis.call('ZADD', KEYS[6], text(t), ARGV[1])
if KEYS[2] ~= '' then
  redis.call('HSET', KEYS[2], 'job', ARGV[1], 'fingerprint', ARGV[5])
  redis.call('EXPIRE', KEYS[2], ARGV[7])
end
announce(KEYS[1], ARGV[2])
return arrived('created', KEYS[1])
