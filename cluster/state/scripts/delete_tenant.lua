-- Voids the keys of a tenant and then forgets the tenant.
-- KEYS: keys of the tenant, tenants   ARGV: tenant
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
  redis.call('DEL', key_of('api_key', cjson.decode(entry).hash))
end
redis.call('DEL', KEYS[1])
return redis.call('SREM', KEYS[2], ARGV[1])
