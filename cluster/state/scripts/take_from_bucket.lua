-- Takes from a token bucket, or says how long to wait.
-- KEYS: bucket, answer   ARGV: capacity, refill per second, cost
-- include: answers
local said = recall(KEYS[2])
if said then return said end
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local f = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = capacity
if f[1] then tokens = math.min(capacity, tonumber(f[1]) + math.max(0, now - tonumber(f[2])) * rate) end
local wait = 0
if tokens >= cost then tokens = tokens - cost else wait = (cost - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9g', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(capacity / rate) + 1)
return remember(KEYS[2], string.format('%.6f', wait))
