-- Keeps what the gate said of a version, and that the ledger is to be told.
-- KEYS: versions, verdicts, verdicts the ledger is to be told of   ARGV: version, verdict, name of the version
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[2])
end
return 'ok'
