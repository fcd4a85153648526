-- What the scripts about recordings share.
-- include: clock
-- Lets the same bytes be uploaded anew.
local function give_free(by_content, sha256, id)
  if redis.call('HGET', by_content, sha256) == id then redis.call('HDEL', by_content, sha256) end
end
-- Has the keeper look at a recording after some seconds.
local function look(due, tenant, id, t, seconds)
  redis.call('ZADD', due, text(t + seconds * 1000000), tenant .. ' ' .. id)
end
