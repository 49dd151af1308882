-- board: one snapshot of a room for everybody who waits. Reads only.
--
-- Keys  1 room (HASH)  2 line  3 lobby  4 silent  5 called  6 inside  7 buying  8 ended (ZSETs)  9 stock (HASH)
-- Args  1 now_ms (0 = this server's clock)   2 most called numbers, most ended numbers   3 most rungs of the ladder
-- Reply {now_ms, fields of the room (name, value, …), in line, in the lobby, silent, called, inside, buying,
--        {available, held, sold, total} (nil = not loaded), {number, deadline in ms, …}, {rank, place, …},
--        {ended number, end of its pass in ms, …}}; of the ended those whose pass would last longest: gates keep the others
-- Rungs: ranks 0 to 63 each, then 2 % further each time (`ladder::next_rank`), and the last rank. A million people
--   need fewer than 600, each one ZRANGE of one member.
-- Operation id: none needed. Races: none, it is one moment. Crash: nothing was written.
if #KEYS ~= 9 or #ARGV ~= 3 then return redis.error_reply('BADARG count') end
for i = 1, 3 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') then return redis.error_reply('BADARG ' .. i) end
end
local called_max, rungs_max = tonumber(ARGV[2]), tonumber(ARGV[3])
if called_max > 20000 or rungs_max > 1024 then return redis.error_reply('BADARG bound') end
local room, line, lobby, silent, called, inside, buying, ended, stock = unpack(KEYS)
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(redis.call('HGET', room, 'skew_ms') or 0)
local waiting = redis.call('ZCARD', line)
local ladder, rungs = {}, 0
local function rung(rank, place)
  rungs = rungs + 1
  ladder[2 * rungs - 1], ladder[2 * rungs] = rank, tonumber(place)
end
local first = redis.call('ZRANGE', line, 0, 63, 'WITHSCORES')
for i = 1, #first, 2 do rung((i - 1) / 2, first[i + 1]) end
local rank = 64
while rank < waiting - 1 and rungs < rungs_max - 1 do
  rung(rank, redis.call('ZRANGE', line, rank, rank, 'WITHSCORES')[2])
  rank = math.max(rank + 1, rank + math.floor(rank / 50))
end
if waiting > 64 then rung(waiting - 1, redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]) end

local alive = '(' .. string.format('%.0f', now)
return {
  now, redis.call('HGETALL', room), waiting, redis.call('ZCARD', lobby), redis.call('ZCARD', silent),
  redis.call('ZCOUNT', called, alive, '+inf'), redis.call('ZCOUNT', inside, alive, '+inf'), redis.call('ZCOUNT', buying, alive, '+inf'),
  redis.call('HMGET', stock, 'available', 'held', 'sold', 'total'),
  redis.call('ZRANGEBYSCORE', called, alive, '+inf', 'WITHSCORES', 'LIMIT', 0, called_max),
  ladder,
  redis.call('ZREVRANGEBYSCORE', ended, '+inf', alive, 'WITHSCORES', 'LIMIT', 0, called_max),
}
