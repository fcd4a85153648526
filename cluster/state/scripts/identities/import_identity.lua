-- Takes over what the model registry knows of an identity from the time when it was the authority.
-- KEYS: champion, versions, identities
-- ARGV: tenant, identity, champion, previous, challenger ('' for none), seconds, then version, facts, fit ('' for none)...
-- include: clock
-- include: usage
for i = 7, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    use_storage(ARGV[1], ARGV[2], now())
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
  redis.call('ZADD', KEYS[3], 0, ARGV[2])
  if ARGV[i + 2] ~= '' then
    redis.call('SET', key_of('version_of', ARGV[1], ARGV[i + 2]), ARGV[i], 'NX', 'EX', ARGV[6])
  end
end
if ARGV[3] .. ARGV[4] .. ARGV[5] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'version', ARGV[3], 'previous', ARGV[4], 'challenger', ARGV[5], 'epoch', '1')
end
return 'ok'
