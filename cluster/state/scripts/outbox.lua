-- Webhooks hear of what a script does, in the same step: either both are true, or neither. Goes after ``clock``.
local function due_again(tenant, id)
  local outbox, member = key_of('outbox', tenant, id), tenant .. ' ' .. id
  local first = redis.call('ZRANGE', outbox, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', key_of('outboxes'), first[2], member)
  else
    redis.call('ZREM', key_of('outboxes'), member)
  end
end
-- Takes out of the list what has left, a bounded number at a time.
local function tidy_deliveries(tenant, id)
  local list = key_of('deliveries', tenant, id)
  for _, old in ipairs(redis.call('ZRANGE', list, 0, 19)) do
    if redis.call('EXISTS', key_of('delivery', tenant, old)) == 0 then redis.call('ZREM', list, old) end
  end
end
local most_waiting = 10000  -- deliveries of one webhook: what bounds the memory that a dead endpoint takes
-- Puts an event into the outbox of every webhook of the tenant that wants it.
local function emit(tenant, what, t, data)
  for _, id in ipairs(redis.call('ZRANGE', key_of('webhooks', tenant), 0, -1)) do
    local hook = key_of('webhook', tenant, id)
    local wanted = redis.call('HGET', hook, 'events')
    if wanted and (wanted == '' or string.find(' ' .. wanted .. ' ', ' ' .. what .. ' ', 1, true)) then
      tidy_deliveries(tenant, id)
      local outbox = key_of('outbox', tenant, id)
      if redis.call('ZCARD', outbox) >= most_waiting then
        redis.call('HINCRBY', hook, 'dropped', 1)
      else
        local number = redis.call('HINCRBY', hook, 'events_told', 1)
        local name = string.format('%s-%d', string.gsub(id, '^wh', 'dl'), number)
        redis.call('HSET', key_of('delivery', tenant, name), 'id', name, 'webhook', id, 'type', what, 'at', text(t),
          'data', cjson.encode(data), 'state', 'waiting', 'tries', '0', 'failures', '0')
        redis.call('ZADD', key_of('deliveries', tenant, id), number, name)
        redis.call('ZADD', outbox, text(t), name)
        due_again(tenant, id)
      end
    end
  end
end
