-- What making anything with a secret shares.
local function whole(number) return string.format('%.0f', number) end
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- What a client's own name for a request led to: nil, {'conflict'}, {'gone'}, or {'same', id, seed}.
local function before(once, all, fingerprint)
  if once == '' then return nil end
  local f = redis.call('HMGET', once, 'key_id', 'fingerprint', 'seed')
  if not f[1] then return nil end
  if f[2] ~= fingerprint then return {'conflict'} end
  if redis.call('HEXISTS', all, f[1]) == 0 then return {'gone'} end
  return {'same', f[1], f[3]}
end
-- made: id, seed, fingerprint, once_s
local function remember_once(once, made)
  if once == '' then return end
  redis.call('HSET', once, 'key_id', made.id, 'fingerprint', made.fingerprint, 'seed', made.seed)
  redis.call('EXPIRE', once, made.once_s)
end
