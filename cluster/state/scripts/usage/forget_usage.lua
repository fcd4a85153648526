-- Forgets what was used on days before one.   ARGV: tenant, day
for _, day in ipairs(redis.call('ZRANGEBYSCORE', key_of('usage_days', ARGV[1]), '-inf', '(' .. ARGV[2])) do
  redis.call('DEL', key_of('usage', ARGV[1], day), key_of('usage_names', ARGV[1], day))
  redis.call('ZREM', key_of('usage_days', ARGV[1]), day)
end
return 'ok'
