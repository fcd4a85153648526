-- Takes a seat that is free, or whose holder has been silent for too long. Each holder has a number of its own.
-- KEYS: seat   ARGV: holder, lease_ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local f = redis.call('HMGET', KEYS[1], 'holder', 'until', 'fence')
if f[1] and f[1] ~= ARGV[1] and tonumber(f[2]) > now then return {0, f[1]} end
local fence = tonumber(f[3] or '0')
if f[1] ~= ARGV[1] then fence = fence + 1 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'fence', fence)
return {fence, ARGV[1]}
