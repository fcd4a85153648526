-- include: jobs/jobs
local kind = redis.call('HGET', KEYS[1], 'kind')
if kind then hear(kind, now()) end
local f = redis.call('HMGET', KEYS[1], 'status', 'fence')
-- Whether the claim that speaks (ARGV[3] is its token) is the last one.
local mine = f[2] == ARGV[3]
