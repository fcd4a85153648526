-- include: jobs
local f = redis.call('HMGET', KEYS[1], 'status', 'fence')
-- Whether the claim that speaks (ARGV[3] is its token) is the last one.
local mine = f[2] == ARGV[3]
