-- Queues the jobs again whose lease ran out, or whose wait is over.
-- KEYS: turn   ARGV: kind, retention_s
-- include: jobs
local t = now()
hear(ARGV[1], t)
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  requeue(tenant, ARGV[1], ARGV[2], t)
end
return 'ok'
