-- Ends a claim: done, failed, tried again while attempts are left, or put off uncounted; answers {'ok', the job} or {'lost'}.
-- KEYS: job, queue, leases, index
-- ARGV: id, tenant, fence, outcome, result or error, retention_s, wait in microseconds, times it may be put off,
--   who failed it ('' for nobody)
-- include: jobs/fenced
-- include: usage
local outcome = ARGV[4]
local how = ARGV[3] .. ' ' .. outcome
if redis.call('HGET', KEYS[1], 'ended') == how then return {'ok', record(KEYS[1])} end
if not mine or f[1] ~= 'running' then return {'lost'} end
local t = now()
-- What the tenant is charged for: seconds of video, and seconds that the worker had who made the version.
local function count_done(t)
  local g = redis.call('HMGET', KEYS[1], 'request', 'begun')
  local request = cjson.decode(g[1])
  if kind == 'render' then
    local identity = string.match(request.ref or '', '%.(.+)@') or ''
    use(ARGV[2], identity, t, 'renders', 1)
    use(ARGV[2], identity, t, 'rendered_s', cost_of(ARGV[2], ARGV[1]) / 1000)
  else
    use(ARGV[2], request.identity or '', t, 'fits', 1)
    use(ARGV[2], request.identity or '', t, 'fitted_s', (t - (g[2] or t)) / 1e6)
  end
end
if outcome ~= 'done' then  -- what was no fault of the job was not served at all
  refund(ARGV[2], kind, ARGV[1], (outcome == 'retry' or outcome == 'failed') and rest_of(KEYS[1]) or 1)
end
exit('leases', ARGV[2], kind, ARGV[1])
redis.call('HSET', KEYS[1], 'ended', how)
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[1], 'failed_on', (redis.call('HGET', KEYS[1], 'failed_on') or '') .. ARGV[9] .. '\n')
end
if outcome == 'done' then
  tally('ended', kind, 'done', '')
  if kind == 'render' then note_outcome(ARGV[2], KEYS[1], 'done') end
  redis.call('HSET', KEYS[1], 'status', 'done', 'progress', '1', 'result', ARGV[5], 'updated', text(t))
  count_done(t)
  leave(ARGV[2], kind, KEYS[1], ARGV[1], ARGV[6], t)
elseif outcome == 'released' or outcome == 'dodged' then
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
  if outcome == 'dodged' then redis.call('HINCRBY', KEYS[1], 'dodged', 1) end
  put_off(ARGV[2], kind, KEYS[1], ARGV[1], t, tonumber(ARGV[7]))
elseif outcome == 'put off' then
  tally('put_off', kind, cjson.decode(ARGV[5]).code)
  redis.call('HSET', KEYS[1], 'error', ARGV[5])
  if redis.call('HINCRBY', KEYS[1], 'put_off', 1) > tonumber(ARGV[8]) then
    give_up(ARGV[2], kind, KEYS[1], ARGV[1], ARGV[5], ARGV[6], t)
  else
    redis.call('HINCRBY', KEYS[1], 'attempt', -1)
    put_off(ARGV[2], kind, KEYS[1], ARGV[1], t, tonumber(ARGV[7]))
  end
else
  local a = redis.call('HMGET', KEYS[1], 'attempt', 'max_attempts')
  if outcome == 'retry' and tonumber(a[1]) < tonumber(a[2]) then
    tally('retried', kind, cjson.decode(ARGV[5]).code)
    redis.call('HSET', KEYS[1], 'error', ARGV[5])
    queue_again(ARGV[2], kind, KEYS[1], ARGV[1], t)
  else
    give_up(ARGV[2], kind, KEYS[1], ARGV[1], ARGV[5], ARGV[6], t)
  end
end
announce(KEYS[1], ARGV[2])
return {'ok', record(KEYS[1])}
