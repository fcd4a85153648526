-- Forgets a webhook and all that it was or was to be told; answers 'deleted' or 'unknown'.
-- KEYS: webhook, webhooks, deliveries, outbox, outboxes, answer   ARGV: tenant, id, who does it
-- include: answers
-- include: audit
local said = recall(KEYS[6])
if said then return said end
if redis.call('EXISTS', KEYS[1]) == 0 then return remember(KEYS[6], 'unknown') end
for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do redis.call('DEL', key_of('delivery', ARGV[1], name)) end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[1] .. ' ' .. ARGV[2])
audit(ARGV[1], ARGV[3], 'delete-webhook', 'webhook', ARGV[2], redis.call('HGET', KEYS[1], 'url'))
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
return remember(KEYS[6], 'deleted')
