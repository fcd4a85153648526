-- Says what a probe has shown: a fault, or '' for none.
-- KEYS: probe, probes   ARGV: tenant, id, who, fault, the backend that rendered
if redis.call('HGET', KEYS[1], 'by') == ARGV[3] and redis.call('HSETNX', KEYS[1], 'fault', ARGV[4]) == 1 then
  redis.call('HSET', KEYS[1], 'backend', ARGV[5])
  redis.call('ZREM', KEYS[2], ARGV[1] .. '/' .. ARGV[2])
  redis.call('PUBLISH', key_of('channel', KEYS[1]), cjson.encode({fault = ARGV[4]}))
end
return 'ok'
