-- load_finish: opens a room's stock with the totals of the ledger's snapshot.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 token  2 epoch  3 available  4 held  5 sold  6 total  7 starts_at_ms  8 ends_at_ms  9 per_user_limit
-- Reply {'loaded', run_id of this server} | {'stale'} (overtaken, flushed away, or the epoch is not newer)
-- Operation id: the token; after the first run it is gone and a second run is 'stale', without effect.

if #ARGV ~= 9 then return redis.error_reply('BADARG count') end
for i = 2, 9 do
  if #ARGV[i] > 15 or not string.match(ARGV[i], '^%d+$') then return redis.error_reply('BADARG number') end
end
if tonumber(ARGV[3]) + tonumber(ARGV[4]) + tonumber(ARGV[5]) ~= tonumber(ARGV[6]) then
  return redis.error_reply('BADARG sum')
end
local s = redis.call('HMGET', KEYS[1], 'loading', 'epoch')
if s[1] ~= ARGV[1] or tonumber(ARGV[2]) <= (tonumber(s[2] or '0') or 0) then return {'stale'} end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'available', ARGV[3], 'held', ARGV[4], 'sold', ARGV[5], 'total', ARGV[6],
  'starts_at_ms', ARGV[7], 'ends_at_ms', ARGV[8], 'per_user_limit', ARGV[9], 'unconfirmed', '0')
redis.call('HDEL', KEYS[1], 'loading', 'loading_at_ms')
return {'loaded', redis.call('INFO', 'server'):match('run_id:(%x+)') or ''}
