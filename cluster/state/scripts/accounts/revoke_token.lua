-- Voids a client token; answers 1, or 0 when the tenant has no such token.
-- KEYS: tokens of the tenant, their ends, answer   ARGV: id, tenant, who does it
-- include: answers
-- include: audit
local said = recall(KEYS[3])
if said then return tonumber(said) end
local known = redis.call('HGET', KEYS[1], ARGV[1])
local lived = 0
if known then
  lived = redis.call('DEL', key_of('client_token', string.sub(known, 17)))
  redis.call('HDEL', KEYS[1], ARGV[1])
  if lived == 1 then audit(ARGV[2], ARGV[3], 'revoke-token', 'token', ARGV[1]) end
  redis.call('ZREM', KEYS[2], string.sub(known, 1, 16) .. ARGV[1])
end
return remember(KEYS[3], lived)
