-- Keeps a batch, once per id and once per idempotency key; answers {outcome, the batch where there is one}.
-- KEYS: batch, its items, batches of the tenant, open batches, tenants, idempotency ('' for none)
-- ARGV: id, tenant, kind, what is the same for all items, fingerprint, seconds for which the key is kept, open batches that
--   a tenant may have, then the items
-- include: clock
if redis.call('SISMEMBER', KEYS[5], ARGV[2]) == 0 then return {'no-tenant'} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'created', redis.call('HGETALL', KEYS[1])} end  -- asked again
if KEYS[6] ~= '' then
  local f = redis.call('HMGET', KEYS[6], 'batch', 'fingerprint')
  local before = f[1] and key_of('batch', ARGV[2], f[1])
  if before and redis.call('EXISTS', before) == 1 then
    if f[2] ~= ARGV[5] then return {'conflict'} end
    return {'same', redis.call('HGETALL', before)}
  end
end
if redis.call('EXISTS', key_of('maintenance')) == 1 then return {'maintenance'} end
local open = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local status = redis.call('HGET', key_of('batch', ARGV[2], id), 'status')
  if not status then redis.call('ZREM', KEYS[3], id) end
  if status == 'running' or status == 'paused' or status == 'cancelling' then open = open + 1 end
end
if open >= tonumber(ARGV[7]) then return {'busy'} end
local t = now()
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'tenant', ARGV[2], 'kind', ARGV[3], 'status', 'running', 'terms', ARGV[4],
  'created', text(t), 'updated', text(t), 'forgiven', '0', 'reason', '')
for i = 8, #ARGV do redis.call('HSET', KEYS[2], i - 8, ARGV[i]) end
redis.call('ZADD', KEYS[3], text(t), ARGV[1])
redis.call('SADD', KEYS[4], ARGV[2] .. ' ' .. ARGV[1])
if KEYS[6] ~= '' then
  redis.call('HSET', KEYS[6], 'batch', ARGV[1], 'fingerprint', ARGV[5])
  redis.call('EXPIRE', KEYS[6], ARGV[6])
end
return {'created', redis.call('HGETALL', KEYS[1])}
