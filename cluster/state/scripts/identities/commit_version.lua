-- Makes a version count: whole, known by its hash, and the only one of its fit.
-- KEYS: version of the fit ('' for none), job, versions, identities, versions the ledger is to be told of, details
-- ARGV: tenant, identity, version, facts, fence, seconds for which a fit's version is remembered, details ('' for none)
-- include: identities/claimed
-- include: clock
-- include: usage
if KEYS[1] ~= '' then
  local made = redis.call('GET', KEYS[1])
  if made then return made == ARGV[3] and 'ok' or 'lost' end
  if not claimed(KEYS[2], ARGV[5]) then return 'lost' end
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[6])
end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 0 then
  use_storage(ARGV[1], ARGV[2], now())
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
  if ARGV[7] ~= '' then redis.call('HSET', KEYS[6], ARGV[3], ARGV[7]) end
  redis.call('ZADD', KEYS[4], 0, ARGV[2])
  redis.call('SADD', KEYS[5], ARGV[1] .. '.' .. ARGV[2] .. '@' .. ARGV[3])
end
return 'ok'
