-- Counts what was stored until a moment that has passed.   ARGV: tenant, the moment, identities ('' for what has none)
-- include: clock
-- include: usage
local t = now()
local till = math.min(t, tonumber(ARGV[2]))
for i = 3, #ARGV do
  local since = redis.call('HGET', key_of('stored_since', ARGV[1]), ARGV[i])
  if not since then
    redis.call('HSET', key_of('stored_since', ARGV[1]), ARGV[i], text(t))  -- of a release that did not count it
  elseif tonumber(since) < till then
    use_storage(ARGV[1], ARGV[i], till)
  end
end
return 'ok'
