-- claim: a called number takes its lease.
--
-- Keys  1 room (HASH)  2 line  3 lobby  4 silent  5 called  6 inside  7 buying (ZSETs)  8 missed (HASH)  9 left (ZSET)
--       10 entered (HASH)  11 ended (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 lease in ms
--       3 after a loss of the store nobody is called for so many ms   4 claim window in ms
--       5 1 = the room is on hold: nobody takes a lease   6 number   7 place (0 = not drawn yet)
--       8 fingerprint of the browser that claims, 16 hexadecimal digits (all 0 = unknown)
-- Reply {code, end of the lease in ms or 0, 1 = claimed just now, fingerprint of the browser that claimed first}
--       code 0 inside, 1 not your turn, 2 missed, 3 left
-- Operation id: the number. A repeat finds the lease and returns the same end; `claims` counts once.
--   The browser is kept with the lease and never exchanged: the gate compares it with the one that asks, so a copied
--   ticket is noticed, while an owner who lost the reply finds the own browser.
-- A claim at or after its deadline is missed even if no tick has swept it. A number behind the frontier that the
--   store does not know (it was lost) is not its turn yet: its next beat puts it back into line.
-- Races: with the sweep of call.lua: either the claim comes first and moves it inside, or it is gone. Two browsers claim
--   at once: one of them is first, and the other finds its fingerprint.
-- Crash: all of it or nothing.
if #KEYS ~= 11 or #ARGV ~= 8 then return redis.error_reply('BADARG count') end
for i = 1, 7 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
if #ARGV[8] ~= 16 or not ARGV[8]:match('^%x+$') then return redis.error_reply('BADARG 8') end
local room, line, lobby, silent, called, inside, buying, missed, left, entered, ended = unpack(KEYS)
local number, place = ARGV[6], tonumber(ARGV[7])
local state = redis.call('HMGET', room, 'next', 'lost_ms', 'frontier', 'skew_ms', 'hold_until_ms')
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[4] or 0)
local text = function(n) return string.format('%.0f', n) end
local nobody = ''
if redis.call('ZSCORE', ended, number) then return { 2, 0, 0, nobody } end
local lease = redis.call('ZSCORE', inside, number) or redis.call('ZSCORE', buying, number)
if lease then
  if tonumber(lease) > now then
    return { 0, tonumber(lease), 0, string.match(redis.call('HGET', entered, number) or '', ':(%x+)$') or nobody }
  end
  return { 2, 0, 0, nobody }
end
local held = ARGV[5] == '1' or now < tonumber(state[5] or 0)
local deadline = redis.call('ZSCORE', called, number)
if deadline then
  if tonumber(deadline) <= now then return { 2, 0, 0, nobody } end
  if held then return { 1, 0, 0, nobody } end
  local lease_until = now + tonumber(ARGV[2])
  redis.call('ZREM', called, number)
  redis.call('HDEL', missed, number)
  redis.call('ZADD', inside, text(lease_until), number)
  redis.call('HSET', entered, number, text(now) .. ':' .. ARGV[8])
  redis.call('HINCRBY', room, 'claims', 1)
  -- The ring counts a claim in the second of its call.
  local second = math.floor((tonumber(deadline) - tonumber(ARGV[4])) / 1000)
  local field = 'r' .. (second % 64)
  local at, calls, claims = string.match(redis.call('HGET', room, field) or '', '^(%d+):(%d+):(%d+)$')
  if tonumber(at) == second then
    redis.call('HSET', room, field, at .. ':' .. calls .. ':' .. text(claims + 1))
  end
  return { 0, lease_until, 1, ARGV[8] }
end
if redis.call('ZSCORE', line, number) or redis.call('ZSCORE', lobby, number) then return { 1, 0, 0, nobody } end
if redis.call('ZSCORE', silent, number) then
  return { redis.call('HEXISTS', missed, number) == 1 and 2 or 1, 0, 0, nobody }
end
if redis.call('ZSCORE', left, number) then return { 3, 0, 0, nobody } end
-- A number that this store never gave proves a loss; it must not be given to somebody else (see beat.lua).
if tonumber(number) >= tonumber(state[1] or 1) then
  redis.call('HSET', room, 'next', tonumber(number) + 1)
  if now - tonumber(state[2] or 0) > 600000 then
    redis.call('HSET', room, 'lost_ms', text(now), 'hold_until_ms', text(now + tonumber(ARGV[3])))
  end
end
return { (place == 0 or place > tonumber(state[3] or 0)) and 1 or 2, 0, 0, nobody }
