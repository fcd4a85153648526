-- Makes a webhook, once per id and once per idempotency key; answers {outcome, id}.
-- KEYS: webhook, webhooks, tenants, idempotency ('' for none)
-- ARGV: tenant, id, url, events (by blank, '' for all), note, secret, most of a tenant, fingerprint, idempotency_s,
--   who does it
-- include: clock
-- include: audit
if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 0 then return {'no-tenant', ''} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'made', ARGV[2]} end  -- asked again
if KEYS[4] ~= '' then
  local f = redis.call('HMGET', KEYS[4], 'webhook', 'fingerprint')
  if f[1] and f[2] ~= ARGV[8] then return {'conflict', ''} end
  if f[1] then return {redis.call('EXISTS', key_of('webhook', ARGV[1], f[1])) == 1 and 'made' or 'gone', f[1]} end
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then return {'full', ''} end
local t = now()
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'url', ARGV[3], 'events', ARGV[4], 'note', ARGV[5], 'secret', ARGV[6],
  'created', text(t))
redis.call('ZADD', KEYS[2], text(t), ARGV[2])
if KEYS[4] ~= '' then
  redis.call('HSET', KEYS[4], 'webhook', ARGV[2], 'fingerprint', ARGV[8])
  redis.call('EXPIRE', KEYS[4], ARGV[9])
end
audit(ARGV[1], ARGV[10], 'create-webhook', 'webhook', ARGV[2], '', ARGV[3])
return {'made', ARGV[2]}
