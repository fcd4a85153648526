-- Takes the next delivery of a webhook that is due; it is due again after the claim, should nobody tell how it went.
-- Answers the delivery, or nothing.
-- KEYS: webhook, outbox, answer   ARGV: tenant, id, seconds of the claim
-- include: clock
-- include: outbox
-- include: answers
local said = recall(KEYS[3])
if said then return redis.call('HGETALL', key_of('delivery', ARGV[1], said)) end
local t = now()
while true do
  local name = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(t), 'LIMIT', 0, 1)[1]
  local delivery = name and key_of('delivery', ARGV[1], name)
  if not name or redis.call('EXISTS', KEYS[1]) == 0 then
    due_again(ARGV[1], ARGV[2])
    if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', key_of('outboxes'), ARGV[1] .. ' ' .. ARGV[2]) end
    return false
  elseif redis.call('EXISTS', delivery) == 0 then
    redis.call('ZREM', KEYS[2], name)
  else
    redis.call('HINCRBY', delivery, 'tries', 1)
    redis.call('ZADD', KEYS[2], text(t + ARGV[3] * 1000000), name)
    due_again(ARGV[1], ARGV[2])
    remember(KEYS[3], name)
    return redis.call('HGETALL', delivery)
  end
end
