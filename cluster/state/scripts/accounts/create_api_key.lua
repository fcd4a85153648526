-- Makes an API key of a tenant that exists; answers {outcome, key id, seed}. Run again with the same id, the same.
-- KEYS: tenants, key, keys of the tenant, idempotency ('' for none)
-- ARGV: tenant, key id, digest, label, scopes, life in milliseconds ('' for ever), seed, fingerprint, idempotency_s,
--   most keys of a tenant, who does it, fingerprint of the pepper
-- include: accounts/new_key
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return {'no-tenant'} end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1 then return {'made', ARGV[2], ARGV[7]} end
local said = before(KEYS[4], KEYS[3], ARGV[8])
if said then return said end
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[10]) then return {'full'} end
return add_key(KEYS[2], KEYS[3], KEYS[4], {
  tenant = ARGV[1], id = ARGV[2], digest = ARGV[3], label = ARGV[4], scopes = ARGV[5], life = ARGV[6],
  seed = ARGV[7], fingerprint = ARGV[8], once_s = ARGV[9],
  signed = ARGV[11], pepper = ARGV[12], what = 'create-key',
})
