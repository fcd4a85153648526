-- Notes who has done what, in the same step as it is done. ``signed``: who, and how many entries are kept, as JSON.
local function audit(tenant, signed, what, kind, name, before, after)
  local by = cjson.decode(signed)
  redis.call('XADD', key_of('audit', tenant), 'MAXLEN', '=', by[2], '*', 'by', by[1], 'what', what, 'on',
    string.format('%s:%s', kind, name), 'before', before or '', 'after', after or '')
end
