-- Keeps the place of an upload for longer; nothing happens where it was given back or is free by itself already.
-- KEYS: uploads, places
-- ARGV: its name, the name under which it counts as an open render, milliseconds
local t = redis.call('TIME')
local ends = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
for n, slots in ipairs(KEYS) do
  redis.call('ZADD', slots, 'XX', ends, ARGV[n])
  redis.call('PEXPIRE', slots, ARGV[3])  -- this one is the newest
end
