-- Takes on a probe that nobody is at; returns the version to probe, or nothing.
-- KEYS: probe   ARGV: who, milliseconds after which somebody else may take it on
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local f = redis.call('HMGET', KEYS[1], 'ref', 'by', 'until', 'fault')
if not f[1] or f[4] then return false end
if f[2] and f[2] ~= ARGV[1] and tonumber(f[3]) > now then return false end
redis.call('HSET', KEYS[1], 'by', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
return f[1]
