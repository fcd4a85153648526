-- What the scripts about jobs share. Times are microseconds of Redis's own clock. The score in a queue is the time of
-- creation, so a job that comes back after its worker died is first in line again.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function text(n) return string.format('%.0f', n) end
local function record(key) return redis.call('HGETALL', key) end
-- Whether there is a job. A record can vanish while a queue still names it: a deleted tenant's, or an evicted one.
local function known(key) return redis.call('HEXISTS', key, 'id') == 1 end
local function announce(key, tenant)
  local f = redis.call('HMGET', key, 'id', 'kind', 'status', 'progress', 'stage', 'attempt')
  local message = cjson.encode({tenant = tenant, job = f[1], kind = f[2], status = f[3],
    progress = tonumber(f[4]), stage = f[5], attempt = tonumber(f[6])})
  redis.call('PUBLISH', key_of('channel', key), message)
  redis.call('PUBLISH', key_of('channel', 'jobs'), message)
end
local function queue_again(tenant, kind, key, id, t)
  redis.call('HSET', key, 'status', 'queued', 'progress', '0', 'stage', '', 'updated', text(t))
  redis.call('ZADD', key_of('queue', tenant, kind), redis.call('HGET', key, 'created'), id)
end
local function give_up(key, error, retention, t)
  redis.call('HSET', key, 'status', 'failed', 'error', error, 'updated', text(t))
  redis.call('EXPIRE', key, retention)
end
local function requeue(tenant, kind, retention, t)
  local leases = key_of('leases', tenant, kind)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', text(t))) do
    local key = key_of('job', tenant, id)
    redis.call('ZREM', leases, id)
    local f = redis.call('HMGET', key, 'status', 'attempt', 'max_attempts')
    if known(key) and f[1] == 'running' then
      if tonumber(f[2]) >= tonumber(f[3]) then
        give_up(key, cjson.encode({code = 'attempts-exhausted', title = 'Every worker that tried this job stopped responding',
          detail = f[2] .. ' attempts'}), retention, t)
      else
        queue_again(tenant, kind, key, id, t)
      end
      announce(key, tenant)
    end
  end
end
