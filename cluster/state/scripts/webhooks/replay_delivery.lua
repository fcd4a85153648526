-- Has a delivery told again at once, as if it were new; answers it, or nothing when there is none.
-- KEYS: delivery, outbox   ARGV: tenant, webhook, name
-- include: clock
-- include: outbox
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('HSET', KEYS[1], 'state', 'waiting', 'failures', '0')
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], text(now()), ARGV[3])
due_again(ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
