-- What a tenant has used, by day and identity ('' for what belongs to none). Goes after ``clock``.
local day_us = 86400 * 1000000
local function use(tenant, identity, t, what, amount)
  local day = text(math.floor(t / day_us))
  redis.call('ZADD', key_of('usage_days', tenant), day, day)
  redis.call('ZADD', key_of('usage_names', tenant, day), 0, identity)
  redis.call('HINCRBYFLOAT', key_of('usage', tenant, day), identity .. '|' .. what, string.format('%.6f', amount))
end
local function stored_bytes(tenant, identity)
  if identity == '' then return tonumber(redis.call('HGET', key_of('stored', tenant), 'bytes') or 0) end
  local bytes = 0
  for _, facts in ipairs(redis.call('HVALS', key_of('versions', tenant, identity))) do
    bytes = bytes + (cjson.decode(facts).num_bytes or 0)
  end
  return bytes
end
-- Counts what was stored until ``t``. Called before it changes, so it has been the same since this was called last.
local function use_storage(tenant, identity, t)
  local since = tonumber(redis.call('HGET', key_of('stored_since', tenant), identity) or t)
  local mb = since < t and stored_bytes(tenant, identity) / 1e6 or 0
  while mb > 0 and since < t do  -- each day has its part
    local till = math.min(t, (math.floor(since / day_us) + 1) * day_us)
    use(tenant, identity, since, 'stored_mb_s', mb * (till - since) / 1e6)
    since = till
  end
  redis.call('HSET', key_of('stored_since', tenant), identity, text(t))
end
