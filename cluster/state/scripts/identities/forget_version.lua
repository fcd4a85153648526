-- Forgets a version whose files are gone, and with the last one its identity.
-- KEYS: versions, identities, champion, champions the ledger is to be told of, details, verdicts, moves
-- ARGV: tenant, identity, version
-- include: clock
-- include: usage
if redis.call('HEXISTS', KEYS[1], ARGV[3]) == 1 then use_storage(ARGV[1], ARGV[2], now()) end
for _, table in ipairs({KEYS[1], KEYS[5], KEYS[6]}) do redis.call('HDEL', table, ARGV[3]) end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[3], KEYS[7], key_of('outcomes', ARGV[1], ARGV[2]))
  redis.call('HDEL', key_of('ledger', 'failing'), ARGV[1] .. '.' .. ARGV[2])
  redis.call('HDEL', key_of('stored_since', ARGV[1]), ARGV[2])
  redis.call('HDEL', KEYS[4], ARGV[1] .. '.' .. ARGV[2])
end
return 'ok'
