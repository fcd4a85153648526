-- Asks for a probe of a version: somebody shall load it and render a frame.
-- KEYS: probe, probes   ARGV: tenant, id, ref, seconds for which the question stands
if redis.call('EXISTS', KEYS[1]) == 0 then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'ref', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('ZADD', KEYS[2], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1] .. '/' .. ARGV[2])
  redis.call('PUBLISH', key_of('channel', 'probe'), cjson.encode({tenant = ARGV[1], id = ARGV[2], ref = ARGV[3]}))
end
return 'ok'
