-- Keeps a seat (or, with no time at all, leaves it) and notes what its holder is doing.
-- KEYS: seat   ARGV: fence, lease_ms, stage ('' for no news)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'stage', ARGV[3]) end
return 'ok'
