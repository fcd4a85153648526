-- Notes that the ledger shows what it was to be told of something, unless that has changed again since.
-- KEYS: what the ledger is to be told   ARGV: of what, what it shows
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 'ok'
