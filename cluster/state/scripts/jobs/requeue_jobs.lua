-- Queues the jobs again whose lease ran out, or whose wait is over, and counts what is open.
-- ARGV: kind, retention_s
-- include: jobs/jobs
local t = now()
adopt(ARGV[1])
hear(ARGV[1], t)
for _, tenant in ipairs(tenants_of(ARGV[1])) do
  requeue(tenant, ARGV[1], ARGV[2], t)
end
recount(ARGV[1])
return 'ok'
