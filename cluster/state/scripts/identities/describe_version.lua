-- Adds what is known of a version, unless something is kept already.
-- KEYS: versions, details   ARGV: version, details
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) end
return 'ok'
