-- What making and rotating a key share. ``entry`` of a key holds what may change; the list of keys holds the rest.
-- Numbers of seconds and milliseconds are written without exponents.
local function whole(number) return string.format('%.0f', number) end
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- What a client's own name for a request led to: nil, {'conflict'}, {'gone'}, or {'same', key id, seed}.
local function before(once, keys_of_tenant, fingerprint)
  if once == '' then return nil end
  local f = redis.call('HMGET', once, 'key_id', 'fingerprint', 'seed')
  if not f[1] then return nil end
  if f[2] ~= fingerprint then return {'conflict'} end
  if redis.call('HEXISTS', keys_of_tenant, f[1]) == 0 then return {'gone'} end
  return {'same', f[1], f[3]}
end
-- new: tenant, id, digest, label, scopes, life (milliseconds, '' for ever), seed, fingerprint, once_s
local function add_key(entry, keys_of_tenant, once, new)
  local now = now_ms()
  redis.call('HSET', entry, 'tenant', new.tenant, 'key_id', new.id, 'scopes', new.scopes, 'life', new.life)
  if new.life ~= '' then redis.call('HSET', entry, 'ends', whole(now + new.life)) end
  local known = {hash = new.digest, label = new.label, created_s = now / 1000}
  redis.call('HSET', keys_of_tenant, new.id, cjson.encode(known))
  if once ~= '' then
    redis.call('HSET', once, 'key_id', new.id, 'fingerprint', new.fingerprint, 'seed', new.seed)
    redis.call('EXPIRE', once, new.once_s)
  end
  return {'made', new.id, new.seed}
end
