-- Counts what happened, for people who watch. What is counted comes from us, so the table stays small.
local function tally(...) redis.call('HINCRBY', key_of('tallies'), table.concat({...}, '|'), 1) end
