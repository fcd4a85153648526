-- Queues an open job that came back with a backup: whoever had it is gone. Answers whether it is open.
-- KEYS: job   ARGV: id, tenant, kind
-- include: jobs/jobs
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'running' then return 0 end
queue_again(ARGV[2], ARGV[3], KEYS[1], ARGV[1], now())
return 1
