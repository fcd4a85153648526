-- Ends an open job without a result; the fence refuses its worker from then on.
-- Answers {'cancelled', the job}, {'done' or 'failed', the job}, or {'unknown'}.
-- KEYS: job, queue, leases, delayed   ARGV: id, tenant, retention_s
-- include: jobs/jobs
if not known(KEYS[1]) then return {'unknown'} end
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'running' then return {status, record(KEYS[1])} end
local kind = redis.call('HGET', KEYS[1], 'kind')
if status == 'running' then refund(ARGV[2], kind, ARGV[1], rest_of(KEYS[1])) end
for _, place in ipairs(places) do exit(place, ARGV[2], kind, ARGV[1]) end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
tally('ended', kind, 'cancelled', '')
local t = now()
redis.call('HSET', KEYS[1], 'status', 'cancelled', 'updated', text(t))
leave(ARGV[2], kind, KEYS[1], ARGV[1], ARGV[3], t)
announce(KEYS[1], ARGV[2])
return {'cancelled', record(KEYS[1])}
