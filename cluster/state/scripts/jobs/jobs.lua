-- What the scripts about jobs share. The score in a queue is the time of creation, so a job that comes back after its
-- worker died is first in line again.
-- include: clock
-- include: outbox
local function record(key) return redis.call('HGETALL', key) end
-- Whether there is a job. A record can vanish while a queue still names it: a deleted tenant's, or an evicted one.
local function known(key) return redis.call('HEXISTS', key, 'id') == 1 end
local function announce(key, tenant)
  local f = redis.call('HMGET', key, 'id', 'kind', 'status', 'progress', 'stage', 'attempt')
  local message = cjson.encode({tenant = tenant, job = f[1], kind = f[2], status = f[3],
    progress = tonumber(f[4]), stage = f[5], attempt = tonumber(f[6])})
  redis.call('PUBLISH', key_of('channel', key), message)
  redis.call('PUBLISH', key_of('channel', key_of('index', tenant, f[2])), message)
end
-- include: tally
-- include: jobs/places
-- include: jobs/outcomes
local function queue_again(tenant, kind, key, id, t)
  redis.call('HSET', key, 'status', 'queued', 'progress', '0', 'stage', '', 'updated', text(t))
  redis.call('HDEL', key, 'not_before', 'unbegun')
  enter('queue', tenant, kind, id, redis.call('HGET', key, 'created'))
end
-- The job waits, in no queue, until ``wait`` microseconds have passed.
local function put_off(tenant, kind, key, id, t, wait)
  queue_again(tenant, kind, key, id, t)
  if wait <= 0 then return end
  redis.call('HSET', key, 'not_before', text(t + wait))
  exit('queue', tenant, kind, id)
  enter('delayed', tenant, kind, id, text(t + wait))
end
-- What webhooks hear of a job.
local function news_of(key)
  local f = redis.call('HMGET', key, 'id', 'kind', 'status', 'request', 'error')
  local request = cjson.decode(f[4])
  local identity, version = string.match(request.ref or '', '%.(.+)@(%d+)')
  local code = f[3] == 'failed' and f[5] and cjson.decode(f[5]).code or nil
  return {id = f[1], status = f[3], identity = identity or request.identity, version = tonumber(version), error = code},
    f[2] .. '.' .. f[3]
end
local function tell_end(tenant, key, t)
  local news, what = news_of(key)
  emit(tenant, what, t, news)
end
local most_kept, kept_s = 16, 3600
-- The files of a job leave with its end. Those of some that failed stay for an hour, so that they can be asked for anew.
local function let_go(tenant, key, id, t)
  local files, kept = key_of('files', tenant, id), key_of('kept_failed', tenant)
  if redis.call('HGET', key, 'status') ~= 'failed' or redis.call('EXPIRE', files, kept_s) == 0 then
    redis.call('DEL', files)
    return
  end
  redis.call('ZADD', kept, text(t), id)
  redis.call('EXPIRE', kept, kept_s)
  for _, old in ipairs(redis.call('ZRANGE', kept, 0, -1 - most_kept)) do
    redis.call('ZREM', kept, old)
    redis.call('DEL', key_of('files', tenant, old))
  end
end
-- The record leaves after ``retention`` seconds, and what leads to it soon after.
local function leave(tenant, kind, key, id, retention, t)
  tell_end(tenant, key, t)
  let_go(tenant, key, id, t)
  redis.call('EXPIRE', key, retention)
  redis.call('ZADD', key_of('leaving', tenant, kind), text(t + retention * 1000000), id)
end
-- Takes out of the index what has left, a bounded number at a time. Records of older versions left no trace: those are
-- found where the index is oldest.
local function tidy(tenant, kind, t)
  local index, leaving = key_of('index', tenant, kind), key_of('leaving', tenant, kind)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leaving, '-inf', text(t), 'LIMIT', 0, 100)) do
    redis.call('ZREM', index, id)
    redis.call('ZREM', leaving, id)
  end
  for _, id in ipairs(redis.call('ZRANGE', index, 0, 19)) do
    if not known(key_of('job', tenant, id)) then redis.call('ZREM', index, id) end
  end
end
local function give_up(tenant, kind, key, id, error, retention, t)
  tally('ended', kind, 'failed', cjson.decode(error).code or '')
  if kind == 'render' then note_outcome(tenant, key, 'failed') end
  redis.call('HSET', key, 'status', 'failed', 'error', error, 'updated', text(t))
  leave(tenant, kind, key, id, retention, t)
end
-- While the store could not be reached, nobody could renew a lease. So after a silence nothing counts as run out at
-- once: whoever lives has ``grace`` to speak again.
local silent, grace = 10 * 1000000, 15 * 1000000
local function hear(kind, t)
  local before = redis.call('GETSET', key_of('pulse', kind), text(t))
  if not before or t - before < silent then return end
  for _, tenant in ipairs(tenants_of(kind)) do
    local leases = key_of('leases', tenant, kind)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', text(t))) do
      redis.call('ZADD', leases, 'XX', text(t + grace), id)
    end
  end
end
-- Queues again what waits no longer, and what has lost its worker.
local function requeue(tenant, kind, retention, t)
  local delayed = key_of('delayed', tenant, kind)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', text(t))) do
    local key = key_of('job', tenant, id)
    exit('delayed', tenant, kind, id)
    if known(key) then queue_again(tenant, kind, key, id, t) end
  end
  local leases = key_of('leases', tenant, kind)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', text(t))) do
    local key = key_of('job', tenant, id)
    exit('leases', tenant, kind, id)
    local f = redis.call('HMGET', key, 'status', 'attempt', 'max_attempts', 'unbegun')
    if known(key) and f[1] == 'running' then
      tally('leases_lost', kind)
      refund(tenant, kind, id, rest_of(key))
      if f[4] then  -- whoever sent it on died, and no worker has had it
        redis.call('HINCRBY', key, 'attempt', -1)
        queue_again(tenant, kind, key, id, t)
      elseif tonumber(f[2]) >= tonumber(f[3]) then
        give_up(tenant, kind, key, id, cjson.encode({code = 'attempts-exhausted', title = 'Every worker that tried this job stopped responding',
          detail = f[2] .. ' attempts'}), retention, t)
      else
        queue_again(tenant, kind, key, id, t)
      end
      announce(key, tenant)
    end
  end
  watch(tenant, kind)
end
