-- Forgets a version whose files are gone, and with the last one its identity.
-- KEYS: versions, identities, champion, champions the ledger is to be told of   ARGV: tenant, identity, version
redis.call('HDEL', KEYS[1], ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[3])
  redis.call('HDEL', KEYS[4], ARGV[1] .. '.' .. ARGV[2])
end
return 'ok'
