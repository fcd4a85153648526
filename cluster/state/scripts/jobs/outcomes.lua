-- Counts how the renders of a version end since the last move of its identity's champion, and notes what fails: the
-- keeper rolls it back.
local function note_outcome(tenant, key, how)
  local read, request = pcall(cjson.decode, redis.call('HGET', key, 'request') or '')
  local ref = read and type(request) == 'table' and request.ref
  local identity, version = string.match(type(ref) == 'string' and ref or '', '^[^.]+%.([^@]+)@(%d+)$')
  if not identity or redis.call('EXISTS', key_of('versions', tenant, identity)) == 0 then return end
  redis.call('HINCRBY', key_of('outcomes', tenant, identity), version .. '|' .. how, 1)
  if how == 'failed' then redis.call('HINCRBY', key_of('ledger', 'failing'), tenant .. '.' .. identity, 1) end
end
