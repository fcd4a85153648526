-- Takes a recording from one state to the next; answers {outcome, the recording}.
-- Asked again in the state that it has reached, it answers the same and changes nothing.
-- KEYS: recording, recordings by content, bytes, recordings to look at
-- ARGV: tenant, id, states it may be in (by blank), next state, seconds until the keeper looks at it, report ('' for none),
--   problem ('' for none)
-- include: recordings/recordings
-- include: outbox
local f = redis.call('HMGET', KEYS[1], 'state', 'sha256')
local state = f[1]
if not state then return {'unknown'} end
if state == ARGV[4] then return {'moved', redis.call('HGETALL', KEYS[1])} end
if not string.find(' ' .. ARGV[3] .. ' ', ' ' .. state .. ' ', 1, true) then return {state, redis.call('HGETALL', KEYS[1])} end
local t = now()
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'updated', text(t), 'tries', '0')
if state == 'uploading' then redis.call('HINCRBY', KEYS[3], 'open', -1) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'report', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'problem', ARGV[7]) end
if ARGV[4] == 'refused' then give_free(KEYS[2], f[2], ARGV[2]) end  -- what it should have been may be uploaded anew
look(KEYS[4], ARGV[1], ARGV[2], t, ARGV[5])
redis.call('HSET', KEYS[1], 'expires', text(t + ARGV[5] * 1000000))
if ARGV[4] == 'ready' or ARGV[4] == 'refused' then
  local problem = ARGV[7] ~= '' and cjson.decode(ARGV[7]).code or nil
  emit(ARGV[1], 'recording.' .. ARGV[4], t, {id = ARGV[2], state = ARGV[4], error = problem})
end
return {'moved', redis.call('HGETALL', KEYS[1])}
