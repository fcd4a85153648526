-- Moves what stands for an identity: promote or challenge a version, roll back to the previous one, clear. What is so
-- already is left alone: no new epoch, nothing to tell, no entry of who did it.
-- The answer to a request is kept with what was asked, so that asking again moves nothing again, and that nobody who
-- asks for something else under the same name is told so.
-- KEYS: champion, versions, move, champions the ledger is to be told of, the list of moves
-- ARGV: tenant, identity, what, version ('' where none is named), expected epoch ('' for any), seconds of the answer,
--   who does it, the challenger's share of renders in percent
-- include: tally
-- include: audit
-- include: clock
-- include: outbox
local kept = redis.call('GET', KEYS[3])
if kept then
  local of = cjson.decode(kept)
  -- Answers of the release before do not say what was asked.
  if of.identity and (of.identity ~= ARGV[2] or of.what ~= ARGV[3] or of.wanted ~= ARGV[4]) then
    return '{"outcome": "other"}'
  end
  return kept
end
local f = redis.call('HMGET', KEYS[1], 'version', 'previous', 'challenger', 'epoch', 'share')
local version, previous, challenger, epoch, share = f[1] or '', f[2] or '', f[3] or '', f[4] or '0', f[5] or ''
local before, what, wanted = version, ARGV[3], ARGV[4]
local function answer(outcome)
  local text = cjson.encode({outcome = outcome, version = version, previous = previous, challenger = challenger,
    epoch = epoch, share = share, before = before, identity = ARGV[2], what = ARGV[3], wanted = ARGV[4]})
  tally('moves', ARGV[3], outcome)
  if outcome == 'moved' or outcome == 'unchanged' then redis.call('SET', KEYS[3], text, 'EX', ARGV[6]) end
  return text
end
if ARGV[5] ~= '' and ARGV[5] ~= epoch then return answer('conflict') end
if what == 'roll_back' then
  if previous == '' then return answer('no-previous') end
  wanted = previous
end
if wanted ~= '' then
  local known = redis.call('HGET', KEYS[2], wanted)
  if not known or cjson.decode(known).state ~= 'ready' then return answer('unknown') end
end
if what == 'challenge' and wanted ~= '' and wanted == version then return answer('champion') end
local stood = table.concat({version, previous, challenger, share}, ' ')
if what == 'clear' then
  version, previous, challenger, share = '', '', '', ''
elseif what == 'challenge' then
  challenger, share = wanted, wanted ~= '' and ARGV[8] or ''
elseif wanted ~= version then
  version, previous = wanted, version
  if challenger == version then challenger, share = '', '' end
end
if table.concat({version, previous, challenger, share}, ' ') == stood then return answer('unchanged') end
epoch = string.format('%d', epoch + 1)
redis.call('HSET', KEYS[1], 'version', version, 'previous', previous, 'challenger', challenger, 'epoch', epoch,
  'share', share)
local outcomes = key_of('outcomes', ARGV[1], ARGV[2])
redis.call('DEL', outcomes)
if version ~= '' then redis.call('HSET', outcomes, 'epoch', epoch) end
redis.call('HSET', KEYS[4], ARGV[1] .. '.' .. ARGV[2], epoch)
local t = redis.call('TIME')
redis.call('LPUSH', KEYS[5], cjson.encode({what = what, before = before, version = version, challenger = challenger,
  share = share, epoch = tonumber(epoch), at = tonumber(t[1])}))
redis.call('LTRIM', KEYS[5], 0, 199)
redis.call('PUBLISH', key_of('channel', 'champion'), cjson.encode({tenant = ARGV[1], identity = ARGV[2],
  version = tonumber(version) or cjson.null, previous = tonumber(previous) or cjson.null, epoch = tonumber(epoch)}))
local names = {promote = 'promote', roll_back = 'roll-back', challenge = 'challenge', clear = 'clear-champion'}
audit(ARGV[1], ARGV[7], names[what], 'identity', ARGV[2], what == 'challenge' and (f[3] or '') or before,
  what == 'challenge' and challenger or version)
emit(ARGV[1], 'champion.moved', now(), {identity = ARGV[2], what = what, version = tonumber(version),
  previous = tonumber(previous), challenger = tonumber(challenger), epoch = tonumber(epoch)})
return answer('moved')
