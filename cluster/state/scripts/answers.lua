-- A script that is run again with the same nonce, because its answer was lost, answers the same and changes nothing.
local function recall(answer) return redis.call('GET', answer) end
local function remember(answer, said)
  redis.call('SET', answer, said, 'PX', 60000)  -- the link gives up far earlier
  return said
end
