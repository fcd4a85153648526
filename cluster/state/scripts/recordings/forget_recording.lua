-- Forgets a recording that is being deleted, whose files are gone, and frees its room.
-- KEYS: recording, recordings, bytes, recordings to look at, recordings by content   ARGV: tenant, id
-- include: recordings/recordings
-- include: usage
local f = redis.call('HMGET', KEYS[1], 'state', 'bytes', 'sha256')
if f[1] == 'deleting' then
  use_storage(ARGV[1], '', now())
  give_free(KEYS[5], f[3], ARGV[2])
  redis.call('HINCRBY', KEYS[3], 'bytes', 0 - f[2])
  redis.call('DEL', KEYS[1])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[1] .. ' ' .. ARGV[2])
end
return 'ok'
