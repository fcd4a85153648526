-- Notes who has done what, in the same step as it is done. ``signed``: who, and how many entries are kept, as JSON.
-- Acts on client tokens have a stream of their own: any key may make tokens, and shall push nothing else out.
local function audit(tenant, signed, what, kind, name, before, after)
  local by, others, tokens = cjson.decode(signed), key_of('audit', tenant), key_of('audit_tokens', tenant)
  local t = redis.call('TIME')
  local ms, number = t[1] * 1000 + math.floor(t[2] / 1000), 0
  for _, stream in ipairs({others, tokens}) do  -- an id is greater than all of both, so they are read as one
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    local last_ms, last_number = string.match(last and last[1] or '0-0', '(%d+)-(%d+)')
    last_ms, last_number = tonumber(last_ms), tonumber(last_number)
    if last_ms > ms or (last_ms == ms and last_number >= number) then ms, number = last_ms, last_number + 1 end
  end
  redis.call('XADD', kind == 'token' and tokens or others, 'MAXLEN', '=', by[2],
    string.format('%.0f-%.0f', ms, number), 'by', by[1], 'what', what, 'on', string.format('%s:%s', kind, name),
    'before', before or '', 'after', after or '')
end
