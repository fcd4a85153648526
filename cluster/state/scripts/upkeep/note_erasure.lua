-- Notes that something was erased for good; answers its number, which is above all numbers before.
-- KEYS: erasures, answer   ARGV: hash of the name
-- include: answers
local said = recall(KEYS[2])
if said then return tonumber(said) end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local number = tonumber(last or 0) + 1
redis.call('ZADD', KEYS[1], number, ARGV[1])
return tonumber(remember(KEYS[2], number))
