-- Ends a claim: done, failed, given back, or tried again while attempts are left; answers {'ok', the job} or {'lost'}.
-- KEYS: job, queue, leases, index, turn   ARGV: id, tenant, fence, outcome, result or error, retention_s
-- include: fenced
local outcome = ARGV[4]
local how = ARGV[3] .. ' ' .. outcome
if redis.call('HGET', KEYS[1], 'ended') == how then return {'ok', record(KEYS[1])} end
if not mine or f[1] ~= 'running' then return {'lost'} end
local t = now()
local kind = redis.call('HGET', KEYS[1], 'kind')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'ended', how)
if outcome == 'done' then
  redis.call('HSET', KEYS[1], 'status', 'done', 'progress', '1', 'result', ARGV[5], 'updated', text(t))
  redis.call('EXPIRE', KEYS[1], ARGV[6])
elseif outcome == 'released' then
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
  queue_again(ARGV[2], kind, KEYS[1], ARGV[1], t)
else
  local a = redis.call('HMGET', KEYS[1], 'attempt', 'max_attempts')
  if outcome == 'retry' and tonumber(a[1]) < tonumber(a[2]) then
    redis.call('HSET', KEYS[1], 'error', ARGV[5])
    queue_again(ARGV[2], kind, KEYS[1], ARGV[1], t)
  else
    give_up(KEYS[1], ARGV[5], ARGV[6], t)
  end
end
announce(KEYS[1], ARGV[2])
return {'ok', record(KEYS[1])}
