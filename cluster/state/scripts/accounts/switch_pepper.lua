-- Makes another pepper the current one; answers 1, or 0 when a third one is.
-- KEYS: fingerprint of the current pepper, time of the switch   ARGV: fingerprint until now, and from now on
local now = redis.call('GET', KEYS[1])
if now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], redis.call('TIME')[1])
return 1
