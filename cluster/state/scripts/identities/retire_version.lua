-- Takes a version out of service for good, unless something stands for it.
-- KEYS: champion, versions   ARGV: version
local text = redis.call('HGET', KEYS[2], ARGV[1])
if not text then return 'unknown' end
for _, alias in ipairs({'version', 'previous', 'challenger'}) do
  if redis.call('HGET', KEYS[1], alias) == ARGV[1] then return alias == 'version' and 'champion' or alias end
end
local facts = cjson.decode(text)
facts.state = 'deleting'
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(facts))
return 'ok'
