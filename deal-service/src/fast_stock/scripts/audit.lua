-- audit: the totals of a room's stock at one instant.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  none
-- Reply {'absent'} | {'loading'} | {'loaded', available, held, sold, total, epoch, unconfirmed orders, holds, units, run_id of
--       this server}
-- Changes nothing.

local s = redis.call('HMGET', KEYS[1], 'available', 'held', 'sold', 'total', 'epoch', 'unconfirmed', 'loading')
if s[7] then return {'loading'} end
if not s[1] then return {'absent'} end
return {'loaded', s[1], s[2] or '0', s[3] or '0', s[4] or '0', s[5] or '0', s[6] or '0',
  redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3]), redis.call('INFO', 'server'):match('run_id:(%x+)') or ''}
