"""The Lua scripts behind ``cluster/state/jobs.py``. Redis runs each as one step.

Times are Redis's own, in microseconds. A queue's score is the time of creation, so a job that comes back after its
worker died is first in line again.
"""

_COMMON = """
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function text(n) return string.format('%.0f', n) end
local function announce(key, tenant)
  local f = redis.call('HMGET', key, 'id', 'kind', 'status', 'progress', 'stage', 'attempt')
  local message = cjson.encode({tenant = tenant, job = f[1], kind = f[2], status = f[3],
    progress = tonumber(f[4]), stage = f[5], attempt = tonumber(f[6])})
  redis.call('PUBLISH', 'events:' .. key, message)
  redis.call('PUBLISH', 'events:jobs', message)
end
local function queue_again(tenant, kind, key, id, t)
  redis.call('HSET', key, 'status', 'queued', 'progress', '0', 'stage', '', 'updated', text(t))
  redis.call('ZADD', tenant .. ':queue:' .. kind, redis.call('HGET', key, 'created'), id)
end
local function give_up(key, error, retention, t)
  redis.call('HSET', key, 'status', 'failed', 'error', error, 'updated', text(t))
  redis.call('EXPIRE', key, retention)
end
local function requeue(tenant, kind, retention, t)
  local leases = tenant .. ':leases:' .. kind
  local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', text(t))
  for _, id in ipairs(ids) do
    local key = tenant .. ':job:' .. id
    redis.call('ZREM', leases, id)
    local f = redis.call('HMGET', key, 'status', 'attempt', 'max_attempts')
    if f[1] == 'running' then
      if tonumber(f[2]) >= tonumber(f[3]) then
        give_up(key, cjson.encode({code = 'attempts-exhausted', title = 'Every worker that tried this job stopped responding',
          detail = f[2] .. ' attempts'}), retention, t)
      else
        queue_again(tenant, kind, key, id, t)
      end
      announce(key, tenant)
    end
  end
  return #ids
end
"""

# KEYS: job, idempotency ('' for none), tenants, queue, leases, index, turn
# ARGV: id, tenant, kind, request, fingerprint, max_attempts, idempotency_s, max_open (-1: any), cost
CREATE = (
    _COMMON
    + """
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then return {'no-tenant', ''} end
if KEYS[2] ~= '' then
  local f = redis.call('HMGET', KEYS[2], 'job', 'fingerprint')
  if f[1] and redis.call('EXISTS', ARGV[2] .. ':job:' .. f[1]) == 1 then
    return {f[2] == ARGV[5] and 'same' or 'conflict', f[1]}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'exists', ARGV[1]} end
local open = redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5])
if tonumber(ARGV[8]) >= 0 and open >= tonumber(ARGV[8]) then return {'quota', text(open)} end
local t = now()
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'tenant', ARGV[2], 'kind', ARGV[3], 'status', 'queued', 'progress', '0',
  'stage', '', 'request', ARGV[4], 'attempt', '0', 'max_attempts', ARGV[6], 'fence', '0', 'worker', '',
  'cost', ARGV[9], 'created', text(t), 'updated', text(t))
redis.call('ZADD', KEYS[4], text(t), ARGV[1])
redis.call('ZADD', KEYS[6], text(t), ARGV[1])
redis.call('ZADD', KEYS[7], 'NX', 0, ARGV[2])
if KEYS[2] ~= '' then
  redis.call('HSET', KEYS[2], 'job', ARGV[1], 'fingerprint', ARGV[5])
  redis.call('EXPIRE', KEYS[2], ARGV[7])
end
announce(KEYS[1], ARGV[2])
return {'created', ARGV[1]}
"""
)

# KEYS: turn   ARGV: kind, worker, lease_ms, tenant ('' for any), id ('' for any), retention_s
CLAIM = (
    _COMMON
    + """
local t = now()
local tenants = ARGV[4] ~= '' and {ARGV[4]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  requeue(tenant, ARGV[1], ARGV[6], t)
  local queue, leases = tenant .. ':queue:' .. ARGV[1], tenant .. ':leases:' .. ARGV[1]
  local id = ARGV[5]
  if id == '' then id = redis.call('ZRANGE', queue, 0, 0)[1] end
  if id and redis.call('ZREM', queue, id) == 1 then
    local key = tenant .. ':job:' .. id
    redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HINCRBY', key, 'attempt', 1)
    redis.call('HSET', key, 'status', 'running', 'worker', ARGV[2], 'progress', '0', 'stage', '', 'updated', text(t))
    redis.call('ZADD', leases, text(t + ARGV[3] * 1000), id)
    redis.call('ZADD', KEYS[1], 'XX', text(t), tenant)
    announce(key, tenant)
    return redis.call('HGETALL', key)
  end
  if redis.call('EXISTS', queue, leases) == 0 then redis.call('ZREM', KEYS[1], tenant) end
end
return false
"""
)

_FENCED = (
    _COMMON
    + """
local f = redis.call('HMGET', KEYS[1], 'status', 'fence')
local mine = f[2] == ARGV[3]
"""
)

# KEYS: job, queue, leases, index, turn   ARGV: id, tenant, fence, lease_ms, progress ('' for none), stage, has_stage
HEARTBEAT = (
    _FENCED
    + """
if not mine or f[1] ~= 'running' then return 'lost' end
local t = now()
redis.call('ZADD', KEYS[3], text(t + ARGV[4] * 1000), ARGV[1])
redis.call('HSET', KEYS[1], 'updated', text(t))
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'progress', ARGV[5]) end
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'stage', ARGV[6]) end
if ARGV[5] ~= '' or ARGV[7] == '1' then announce(KEYS[1], ARGV[2]) end
return 'ok'
"""
)

# KEYS: job, queue, leases, index, turn   ARGV: id, tenant, fence, outcome, result or error, retention_s
END = (
    _FENCED
    + """
if not mine then return 'lost' end
local outcome = ARGV[4]
if f[1] ~= 'running' then return f[1] == outcome and 'ok' or 'lost' end
local t = now()
local kind = redis.call('HGET', KEYS[1], 'kind')
redis.call('ZREM', KEYS[3], ARGV[1])
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
return 'ok'
"""
)

# KEYS: turn   ARGV: kind, retention_s
REQUEUE = (
    _COMMON
    + """
local count = 0
local t = now()
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  count = count + requeue(tenant, ARGV[1], ARGV[2], t)
end
return count
"""
)

# KEYS: turn   ARGV: kind, tenant ('' for all)
BACKLOG = """
local queued, running, cost = 0, 0, 0
local tenants = ARGV[2] ~= '' and {ARGV[2]} or redis.call('ZRANGE', KEYS[1], 0, -1)
for _, tenant in ipairs(tenants) do
  local ids = redis.call('ZRANGE', tenant .. ':queue:' .. ARGV[1], 0, -1)
  queued = queued + #ids
  running = running + redis.call('ZCARD', tenant .. ':leases:' .. ARGV[1])
  for _, id in ipairs(ids) do
    cost = cost + tonumber(redis.call('HGET', tenant .. ':job:' .. id, 'cost') or '0')
  end
end
return {queued, running, tostring(cost)}
"""

# KEYS: job, queue, leases, index   ARGV: id
DELETE = """
if redis.call('HGET', KEYS[1], 'status') == 'running' then return 'running' end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 'ok'
"""

# KEYS: job, queue, leases, index   ARGV: id, tenant, retention_s
CANCEL = (
    _COMMON
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status ~= 'queued' and status ~= 'running' then return status end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'status', 'cancelled', 'updated', text(now()))
redis.call('EXPIRE', KEYS[1], ARGV[3])
announce(KEYS[1], ARGV[2])
return 'ok'
"""
)
