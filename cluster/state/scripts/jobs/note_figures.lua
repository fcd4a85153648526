-- Keeps what a worker shows of a running job beside its progress, and tells those who follow it.
-- KEYS: job   ARGV: id, tenant, fence, figures
-- include: jobs/fenced
if not mine or f[1] ~= 'running' then return 'lost' end
redis.call('HSET', KEYS[1], 'figures', ARGV[4], 'updated', text(now()))
announce(KEYS[1], ARGV[2])
return 'ok'
