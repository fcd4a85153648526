-- Takes a version out of service for good, unless something stands for it.
-- KEYS: champion, versions   ARGV: version, tenant, identity, who does it
-- include: audit
local text = redis.call('HGET', KEYS[2], ARGV[1])
if not text then return 'unknown' end
for _, alias in ipairs({'version', 'previous', 'challenger'}) do
  if redis.call('HGET', KEYS[1], alias) == ARGV[1] then return alias == 'version' and 'champion' or alias end
end
local facts = cjson.decode(text)
if facts.state ~= 'deleting' then audit(ARGV[2], ARGV[4], 'delete-version', 'identity', ARGV[3], ARGV[1]) end
facts.state = 'deleting'
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(facts))
return 'ok'
