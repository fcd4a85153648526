-- Notes how a try of a delivery went: 'delivered', 'failed' (again after a wait) or 'dead'; answers 'ok' or 'lost'.
-- KEYS: delivery, outbox   ARGV: tenant, webhook, name, number of the try, outcome, HTTP status ('' for none), detail,
--   wait in microseconds, seconds for which it is kept once it is over
-- include: clock
-- include: outbox
local how = ARGV[4] .. ' ' .. ARGV[5]
local f = redis.call('HMGET', KEYS[1], 'state', 'tries', 'settled')
if f[3] == how then return 'ok' end
if f[1] ~= 'waiting' or f[2] ~= ARGV[4] then return 'lost' end
local t = now()
redis.call('HSET', KEYS[1], 'settled', how, 'tried', text(t), 'status', ARGV[6], 'detail', ARGV[7])
if ARGV[5] == 'failed' then
  redis.call('HINCRBY', KEYS[1], 'failures', 1)
  redis.call('ZADD', KEYS[2], text(t + ARGV[8]), ARGV[3])
else
  redis.call('HSET', KEYS[1], 'state', ARGV[5])
  redis.call('EXPIRE', KEYS[1], ARGV[9])
  redis.call('ZREM', KEYS[2], ARGV[3])
end
due_again(ARGV[1], ARGV[2])
return 'ok'
