-- Voids the keys of a tenant and then forgets the tenant; answers 1, or 0 when there was none.
-- KEYS: keys of the tenant, tenants, answer   ARGV: tenant, kinds of jobs
-- include: jobs/jobs
-- include: answers
local said = recall(KEYS[3])
if said then return tonumber(said) end
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
  redis.call('DEL', key_of('api_key', cjson.decode(entry).hash))
end
redis.call('DEL', KEYS[1])
for _, known in ipairs(redis.call('HVALS', key_of('client_tokens', ARGV[1]))) do
  redis.call('DEL', key_of('client_token', string.sub(known, 17)))
end
redis.call('DEL', key_of('client_tokens', ARGV[1]), key_of('client_token_ends', ARGV[1]))
for i = 2, #ARGV do abandon(ARGV[1], ARGV[i]) end
return remember(KEYS[3], redis.call('SREM', KEYS[2], ARGV[1]))
