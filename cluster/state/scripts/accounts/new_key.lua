-- Writes a new API key. Its entry holds what may change; the list of keys holds the rest.
-- include: accounts/secrets
-- include: audit
-- new: tenant, id, digest, fingerprint of the pepper it was made with, label, scopes, life (milliseconds, '' for
-- ever), seed, fingerprint, once_s, and for the trail: who does it, what, the key before
local function add_key(entry, keys_of_tenant, once, new)
  local now = new.now or now_ms()  -- one moment for all that a script writes
  redis.call('HSET', entry, 'tenant', new.tenant, 'key_id', new.id, 'scopes', new.scopes, 'life', new.life)
  if new.life ~= '' then redis.call('HSET', entry, 'ends', whole(now + new.life)) end
  local known = {hash = new.digest, pepper = new.pepper, label = new.label, created_s = now / 1000}
  redis.call('HSET', keys_of_tenant, new.id, cjson.encode(known))
  remember_once(once, new)
  audit(new.tenant, new.signed, new.what, 'key', new.id, new.old or '', new.scopes)
  return {'made', new.id, new.seed}
end
