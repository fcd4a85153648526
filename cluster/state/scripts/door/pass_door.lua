-- Lets a request in, or says why not: {outcome, tenant, seconds to wait, key id, scopes, identity of a client token,
-- what is left of the rate}. Or
-- charges a tenant that is in already. Notes once a minute when the key was used.
-- KEYS: API key or client token, answer
-- ARGV: cost, capacity, refill per second, tenant to charge ('' for none), scope that is needed, purpose of
--       client tokens that is enough ('' for none), origin of the page that asks ('' for none), then for an upload:
--       its name, uploads at once, open renders, milliseconds until its place is free by itself, digest of the client's
--       idempotency key ('' for none)
-- include: answers
-- A token bucket: take(bucket, cost, capacity, per second) answers 0, or the seconds after which there is enough, and
-- what is left.
-- With owe, the cost is always taken, and what is missing is a debt that later calls wait for.
local function take(bucket, cost, capacity, rate, owe)
  local t = redis.call('TIME')
  local now = t[1] + t[2] / 1000000
  local f = redis.call('HMGET', bucket, 'tokens', 'at')
  local tokens = capacity
  if f[1] then tokens = math.min(capacity, tonumber(f[1]) + math.max(0, now - tonumber(f[2])) * rate) end
  local wait = 0
  if tokens < cost then wait = (cost - tokens) / rate end
  if owe or wait == 0 then tokens = math.max(-capacity, tokens - cost) end
  redis.call('HSET', bucket, 'tokens', string.format('%.9g', tokens), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', bucket, math.ceil(2 * capacity / rate) + 1)
  return wait, tokens
end
local said = recall(KEYS[2])
if said then return cjson.decode(said) end
local cost, capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local charged = ARGV[4] ~= ''
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local tenant, key_id, scopes, identity, origin = ARGV[4], '', '', '', ''
-- A client token ends with the key that made it.
local function lives(parent)
  local known = redis.call('HGET', key_of('api_keys', tenant), parent)
  local ends = known and redis.call('HGET', key_of('api_key', cjson.decode(known).hash), 'ends')
  return known and not (ends and tonumber(ends) <= now)
end
if not charged then
  local f = redis.call('HMGET', KEYS[1], 'tenant', 'key_id', 'scopes', 'ends', 'used', 'identity', 'origin', 'parent')
  if not f[1] or f[4] and tonumber(f[4]) <= now then return {'unknown', '', '0', '', '', '', '0'} end
  tenant, key_id, scopes, identity, origin = f[1], f[2], f[3] or 'client', f[6] or '', f[7] or ''
  if f[8] and f[8] ~= '' and not lives(f[8]) then return {'unknown', '', '0', '', '', '', '0'} end
  if t[1] - (f[5] or 0) >= 60 then redis.call('HSET', KEYS[1], 'used', t[1]) end
end
local wait, left = 0, 0
local function answer(outcome, wait)
  local words = {outcome, tenant, string.format('%.6f', wait or 0), key_id, scopes, identity,
    string.format('%.6f', left)}
  remember(KEYS[2], cjson.encode(words))
  return words
end
wait, left = take(key_of('rate', tenant, 'requests'), cost, capacity, rate, charged)
if charged then return answer('in', wait) end
if wait > 0 then return answer('too-often', wait) end
if identity ~= '' then
  if scopes ~= ARGV[6] then return answer('forbidden') end
  if origin ~= ARGV[7] then return answer('wrong-origin') end
elseif not string.find(',' .. scopes .. ',', ',' .. ARGV[5] .. ',', 1, true) then
  return answer('forbidden')
end
local name, digest = ARGV[8], ARGV[12]
if not name then return answer('in') end
local uploads, places = key_of('slots', tenant, 'uploads'), key_of('slots', tenant, 'places')
for _, slots in ipairs({uploads, places}) do redis.call('ZREMRANGEBYSCORE', slots, '-inf', now) end
if redis.call('ZCARD', uploads) >= tonumber(ARGV[9]) then return answer('busy') end
-- Requests under one key share a place, and one that has led to a render needs none: they add one render together.
local place = digest ~= '' and digest or name
local job = digest ~= '' and redis.call('HGET', key_of('idempotency', tenant, digest), 'job')
if not (job and redis.call('EXISTS', key_of('job', tenant, job)) == 1) and not redis.call('ZSCORE', places, place) then
  if redis.call('EXISTS', key_of('maintenance')) == 1 then return answer('closed') end
  local open = redis.call('ZCARD', places)
  for _, list in ipairs({'queue', 'leases', 'delayed'}) do
    open = open + redis.call('ZCARD', key_of(list, tenant, 'render'))
  end
  if open >= tonumber(ARGV[10]) then return answer('full') end
  redis.call('ZADD', places, now + ARGV[11], place)
end
redis.call('ZADD', uploads, now + ARGV[11], name)
for _, slots in ipairs({uploads, places}) do redis.call('PEXPIRE', slots, ARGV[11]) end  -- this one is the newest
return answer('in')
