-- Creates an API key of a tenant that exists.
-- KEYS: tenants, key, keys of the tenant   ARGV: tenant, key id, what is known of the key
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'tenant', ARGV[1], 'key_id', ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
return 1
