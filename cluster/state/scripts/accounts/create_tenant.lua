-- Adds a tenant; answers 1, or 0 when there is one of that name.
-- KEYS: tenants, answer   ARGV: tenant, who does it
-- include: answers
-- include: audit
local said = recall(KEYS[2])
if said then return tonumber(said) end
local added = redis.call('SADD', KEYS[1], ARGV[1])
if added == 1 then audit(ARGV[1], ARGV[2], 'create-tenant', 'tenant', ARGV[1]) end
return tonumber(remember(KEYS[2], added))
