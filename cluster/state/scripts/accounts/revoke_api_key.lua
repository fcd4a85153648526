-- Voids an API key; answers 1, or 0 when the tenant has no such key.
-- KEYS: keys of the tenant, answer   ARGV: key id, tenant, who does it
-- include: answers
-- include: audit
local said = recall(KEYS[2])
if said then return tonumber(said) end
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry then
  redis.call('DEL', key_of('api_key', cjson.decode(entry).hash))
  redis.call('HDEL', KEYS[1], ARGV[1])
  audit(ARGV[2], ARGV[3], 'revoke-key', 'key', ARGV[1])
end
return remember(KEYS[2], entry and 1 or 0)
