-- Reserves room for a recording that is to be uploaded, once per content and once per idempotency key.
-- Answers {outcome, the recording where there is one}.
-- KEYS: recording, recordings, recordings by content, bytes, tenants, recordings to look at, idempotency ('' for none)
-- ARGV: id, tenant, name, bytes, sha256, fingerprint, seconds of the upload, bytes a tenant may have, uploads a tenant
--   may have open, seconds for which the idempotency key is kept
-- include: recordings/recordings
-- include: usage
if redis.call('SISMEMBER', KEYS[5], ARGV[2]) == 0 then return {'no-tenant'} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'created', redis.call('HGETALL', KEYS[1])} end  -- asked again
if KEYS[7] ~= '' then
  local f = redis.call('HMGET', KEYS[7], 'recording', 'fingerprint')
  local before = f[1] and key_of('recording', ARGV[2], f[1])
  if before and redis.call('EXISTS', before) == 1 then
    if f[2] ~= ARGV[6] then return {'conflict'} end
    return {'same', redis.call('HGETALL', before)}
  end
end
local t = now()
local function kept(id)
  if KEYS[7] == '' then return end
  redis.call('HSET', KEYS[7], 'recording', id, 'fingerprint', ARGV[6])
  redis.call('EXPIRE', KEYS[7], ARGV[10])
end
local other = redis.call('HGET', KEYS[3], ARGV[5])
if other then  -- the same bytes are the same recording
  if redis.call('HGET', key_of('recording', ARGV[2], other), 'state') == 'deleting' then return {'deleting'} end
  kept(other)
  return {'same', redis.call('HGETALL', key_of('recording', ARGV[2], other))}
end
if redis.call('EXISTS', key_of('maintenance')) == 1 then return {'maintenance'} end
local bytes = tonumber(redis.call('HGET', KEYS[4], 'bytes') or 0)
if bytes + ARGV[4] > tonumber(ARGV[8]) then return {'full', {text(bytes)}} end
if tonumber(redis.call('HGET', KEYS[4], 'open') or 0) >= tonumber(ARGV[9]) then return {'busy'} end
use_storage(ARGV[2], '', t)
redis.call('HINCRBY', KEYS[4], 'bytes', ARGV[4])
redis.call('HINCRBY', KEYS[4], 'open', 1)
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'tenant', ARGV[2], 'name', ARGV[3], 'bytes', ARGV[4], 'sha256', ARGV[5],
  'state', 'uploading', 'created', text(t), 'updated', text(t), 'tries', '0', 'upload', '',
  'expires', text(t + ARGV[7] * 1000000))
redis.call('ZADD', KEYS[2], text(t), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[5], ARGV[1])
kept(ARGV[1])
look(KEYS[6], ARGV[2], ARGV[1], t, ARGV[7])
return {'created', redis.call('HGETALL', KEYS[1])}
