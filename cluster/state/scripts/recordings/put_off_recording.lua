-- Has the keeper look at a recording again later, because of a failure of ours: each time it waits for longer.
-- KEYS: recording, recordings to look at   ARGV: tenant, id, tries so far, first wait and longest wait in seconds
-- include: recordings/recordings
local tries = redis.call('HGET', KEYS[1], 'tries')
if tries == ARGV[3] then
  redis.call('HINCRBY', KEYS[1], 'tries', 1)
  look(KEYS[2], ARGV[1], ARGV[2], now(), math.min(tonumber(ARGV[5]), ARGV[4] * 2 ^ tries))
end
return 'ok'
