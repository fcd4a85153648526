-- Makes a key in place of another, which ends after an overlap; answers as the making of a key does.
-- KEYS: key, keys of the tenant, idempotency ('' for none)
-- ARGV: tenant, key id, digest, id of the old key, overlap in milliseconds, life in milliseconds ('' for as long as
--   the old one), seed, fingerprint, idempotency_s, most keys of a tenant, who does it, fingerprint of the pepper
-- include: accounts/new_key
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return {'made', ARGV[2], ARGV[7]} end
local said = before(KEYS[3], KEYS[2], ARGV[8])
if said then return said end
local known = redis.call('HGET', KEYS[2], ARGV[4])
if not known then return {'unknown'} end
known = cjson.decode(known)
local old = key_of('api_key', known.hash)
local f = redis.call('HMGET', old, 'scopes', 'life', 'ends', 'successor')
local now = now_ms()
if f[3] and tonumber(f[3]) <= now then return {'ended'} end
if f[4] and redis.call('HEXISTS', KEYS[2], f[4]) == 1 then return {'rotated', f[4]} end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[10]) then return {'full'} end
local ends = now + ARGV[5]
if f[3] then ends = math.min(ends, tonumber(f[3])) end
redis.call('HSET', old, 'ends', whole(ends), 'successor', ARGV[2])
return add_key(KEYS[1], KEYS[2], KEYS[3], {
  tenant = ARGV[1], id = ARGV[2], digest = ARGV[3], label = known.label, scopes = f[1] or 'client',
  life = ARGV[6] ~= '' and ARGV[6] or f[2] or '', seed = ARGV[7], fingerprint = ARGV[8], once_s = ARGV[9],
  signed = ARGV[11], pepper = ARGV[12], what = 'rotate-key', now = now, old = ARGV[4],
})
