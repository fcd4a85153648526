-- Says which version a fit has made already, or that its claim may make one.
-- KEYS: version of the fit, job   ARGV: fence
-- include: identities/claimed
local made = redis.call('GET', KEYS[1])
if made then return {'made', made} end
return {claimed(KEYS[2], ARGV[1]) and 'open' or 'lost', ''}
