-- Whether a fit's claim (its fencing token) is the last one and its job still runs.
local function claimed(job, fence)
  local f = redis.call('HMGET', job, 'status', 'fence')
  return f[1] == 'running' and f[2] == fence
end
