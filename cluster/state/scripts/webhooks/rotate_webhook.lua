-- Gives a webhook another secret; the one before signs too for a while. Answers {outcome, secret}.
-- KEYS: webhook, idempotency   ARGV: tenant, id, new secret, overlap in seconds, fingerprint, idempotency_s, who does it
-- include: clock
-- include: audit
if redis.call('EXISTS', KEYS[1]) == 0 then return {'unknown', ''} end
local f = redis.call('HMGET', KEYS[2], 'secret', 'fingerprint')
if f[1] then return f[2] == ARGV[5] and {'made', f[1]} or {'conflict', ''} end
redis.call('HSET', KEYS[1], 'old_secret', redis.call('HGET', KEYS[1], 'secret'), 'secret', ARGV[3],
  'old_until', text(now() + ARGV[4] * 1000000))
redis.call('HSET', KEYS[2], 'secret', ARGV[3], 'fingerprint', ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[6])
audit(ARGV[1], ARGV[7], 'rotate-webhook', 'webhook', ARGV[2])
return {'made', ARGV[3]}
