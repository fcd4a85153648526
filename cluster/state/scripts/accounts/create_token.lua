-- Makes a client token of an identity that exists; answers {outcome, id, seed}. Run again with the same id, the same.
-- KEYS: identities, token, tokens of the tenant, their ends, idempotency ('' for none), origins of tokens
-- ARGV: tenant, id, digest, identity, origin, life in milliseconds, id of the key that asks ('' for a command), seed,
--   fingerprint, idempotency_s, most tokens of a tenant, purpose, who does it
-- include: accounts/secrets
-- include: audit
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1 then return {'made', ARGV[2], ARGV[8]} end
local said = before(KEYS[5], KEYS[3], ARGV[9])
if said then return said end
if not redis.call('ZSCORE', KEYS[1], ARGV[4]) then return {'no-identity'} end
local now = now_ms()
local function padded(ms) return string.format('%015.0f', ms) end
-- Those that have ended have left already; their names follow here.
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[4], '-', '(' .. padded(now), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[4], member)
  redis.call('HDEL', KEYS[3], string.sub(member, 17))
end
if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[11]) then return {'full'} end
local ends = now + ARGV[6]
redis.call('HSET', KEYS[2], 'tenant', ARGV[1], 'key_id', ARGV[2], 'scopes', ARGV[12], 'identity', ARGV[4],
  'origin', ARGV[5], 'ends', whole(ends), 'created', whole(now), 'parent', ARGV[7])
redis.call('PEXPIREAT', KEYS[2], whole(ends))
redis.call('HSET', KEYS[3], ARGV[2], padded(ends) .. '-' .. ARGV[3])
redis.call('ZADD', KEYS[4], 0, padded(ends) .. '-' .. ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
redis.call('ZADD', KEYS[6], 'GT', ends, ARGV[5])
remember_once(KEYS[5], {id = ARGV[2], seed = ARGV[8], fingerprint = ARGV[9], once_s = ARGV[10]})
audit(ARGV[1], ARGV[13], 'create-token', 'token', ARGV[2], '', ARGV[4])
return {'made', ARGV[2], ARGV[8]}
