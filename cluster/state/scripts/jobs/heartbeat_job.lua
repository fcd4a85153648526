-- Renews a claim and notes how far the work is.
-- KEYS: job, queue, leases, index   ARGV: id, tenant, fence, lease_ms, progress ('' for none), stage, has_stage
-- include: jobs/fenced
if not mine or f[1] ~= 'running' then return 'lost' end
local t = now()
redis.call('ZADD', KEYS[3], text(t + ARGV[4] * 1000), ARGV[1])
expect(ARGV[2], kind, text(t + ARGV[4] * 1000))
redis.call('HSET', KEYS[1], 'updated', text(t))
-- Followers hear of a new stage at once, and of progress when it is a hundredth, once a second.
local said = redis.call('HMGET', KEYS[1], 'stage', 'said', 'said_at')
local news = ARGV[7] == '1' and ARGV[6] ~= said[1]
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'progress', ARGV[5])
  local step, pause = math.abs(ARGV[5] - (said[2] or 0)), t - (said[3] or 0)
  news = news or (step >= 0.01 and pause >= 1000000)
end
local stage = string.match(ARGV[6], '^[^:]*')
if ARGV[7] == '1' and kind == 'fit' and stage ~= string.match(said[1] or '', '^[^:]*') then
  local data = news_of(KEYS[1])
  data.stage = stage
  emit(ARGV[2], 'fit.stage', t, data)
end
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'stage', ARGV[6]) end
if news then
  redis.call('HSET', KEYS[1], 'said', redis.call('HGET', KEYS[1], 'progress'), 'said_at', text(t))
  announce(KEYS[1], ARGV[2])
end
return 'ok'
