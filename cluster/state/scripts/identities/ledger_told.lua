-- Notes that the model registry shows an identity's champion, unless it has moved again since.
-- KEYS: champions the ledger is to be told of   ARGV: identity, epoch
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 'ok'
