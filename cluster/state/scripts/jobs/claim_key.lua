-- Binds a client's own name for a request to what is asked for; answers {outcome, what it led to ('' for nothing yet)}.
-- KEYS: idempotency   ARGV: fingerprint, seconds
local f = redis.call('HMGET', KEYS[1], 'fingerprint', 'job')
if f[1] and f[1] ~= ARGV[1] then return {'conflict', ''} end
if not f[1] then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return {'bound', f[2] or ''}
