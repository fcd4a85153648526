-- Notes what became of items of a batch, and takes the batch to another state if it is in one of those named.
-- Answers {outcome, the batch}. Asked again in the state that it has reached, it answers the same.
-- KEYS: batch, its items, open batches
-- ARGV: tenant, id, states it may be in (by blank; '' to leave it in its own), next state, why, failures that are
--   forgiven ('' to leave them), seconds for which an ended batch is kept, then number and content of items
-- include: clock
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'unknown'} end
local changed = false
for i = 8, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) ~= ARGV[i + 1] then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    changed = true
  end
end
local may = string.find(' ' .. ARGV[3] .. ' ', ' ' .. status .. ' ', 1, true)
if ARGV[3] ~= '' and status ~= ARGV[4] then
  if not may then return {status, redis.call('HGETALL', KEYS[1])} end
  changed = true
  redis.call('HSET', KEYS[1], 'status', ARGV[4], 'reason', ARGV[5])
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'forgiven', ARGV[6]) end
  if ARGV[4] == 'done' or ARGV[4] == 'cancelled' then
    redis.call('SREM', KEYS[3], ARGV[1] .. ' ' .. ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[7])
    redis.call('EXPIRE', KEYS[2], ARGV[7])
  end
end
if changed then redis.call('HSET', KEYS[1], 'updated', text(now())) end
return {'moved', redis.call('HGETALL', KEYS[1])}
