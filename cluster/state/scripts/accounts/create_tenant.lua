-- Adds a tenant; answers 1, or 0 when there is one of that name.
-- KEYS: tenants, answer   ARGV: tenant
-- include: answers
return tonumber(recall(KEYS[2]) or remember(KEYS[2], redis.call('SADD', KEYS[1], ARGV[1])))
