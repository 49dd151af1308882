-- load_begin: closes a room's stock so that it can be filled from the ledger.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 token of this filling  2 epoch that the caller saw, or '' when it saw no stock
--       3 after how long another's unfinished filling is given up, ms
-- Reply 'begun' | 'busy' (another filling runs) | 'newer' (filled since the caller looked)
-- Operation id: the token; a second run begins the same filling again.
-- Steps of a filling: begin, read the ledger (which raises the epoch), rows, finish. Between begin and
-- finish there is no `available`: holds are refused, and settle and release ask to come again, so that
-- nothing falls between the ledger's snapshot and the filling. There is no undo: a crash leaves the room
-- closed until the next filling takes over after argument 3. Two fillings: only the last token may finish.

local token, seen, stale_ms = ARGV[1], ARGV[2], ARGV[3]
if #token < 8 or #token > 64 then return redis.error_reply('BADARG token') end
if seen ~= '' and not string.match(seen, '^%d+$') then return redis.error_reply('BADARG epoch') end
if #stale_ms > 9 or not string.match(stale_ms, '^[1-9]%d*$') then return redis.error_reply('BADARG stale_ms') end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local s = redis.call('HMGET', KEYS[1], 'available', 'epoch', 'loading', 'loading_at_ms')
if s[3] and s[3] ~= token and now - (tonumber(s[4] or '0') or 0) < tonumber(stale_ms) then return 'busy' end
if s[1] and s[2] ~= seen then return 'newer' end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('HSET', KEYS[1], 'loading', token, 'loading_at_ms', string.format('%.0f', now), 'epoch', s[2] or '0')
return 'begun'
