-- Finds the entry of an API key or client token that may have been made with the other pepper, and moves the entry of
-- an API key to the pepper that is the current one. Answers the name of the entry, or '' when there is none.
-- KEYS: entry under our pepper, entry under the other one, fingerprint of the current pepper
-- ARGV: fingerprint of ours, digest under ours, 1 for an API key
if redis.call('EXISTS', KEYS[1]) == 1 then return KEYS[1] end
local f = redis.call('HMGET', KEYS[2], 'tenant', 'key_id')
if not f[1] then return '' end
if ARGV[3] ~= '1' or redis.call('GET', KEYS[3]) ~= ARGV[1] then return KEYS[2] end
local list = key_of('api_keys', f[1])
local known = redis.call('HGET', list, f[2])
if not known then return '' end
known = cjson.decode(known)
known.hash, known.pepper = ARGV[2], ARGV[1]
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('HSET', list, f[2], cjson.encode(known))
return KEYS[1]
