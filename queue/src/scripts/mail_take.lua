-- mail_take: leases the letters to people whose turn is near, and those whose lease ran out.
--
-- Keys  1 mail (ZSET number → place)  2 mailto (HASH number → mark, tries, language, address)
--       3 mailing (ZSET number → end of the lease in ms)  4 mailed (SET)  5 line  6 silent  7 called  8 lobby (ZSETs)
-- Args  1 now_ms (0 = this server's clock)   2 near: so many people at the front are told   3 lease_ms
--       4 most letters   5 most numbers looked at   6 most tries of one letter   7 longest keeping in ms
-- Reply { 1 when there may be more to look at, { number, tries with this one, language, address, … } }
-- Operation id: none. A repeat leases other letters.
-- Marks: n new, s being sent, f surely not sent (mail_done.lua said so), r sent again after a lease that nobody reported on.
-- Races: two gates at once: each letter has one lease. The line decides at the moment of the taking who is near, so a
--   place that was guessed or drawn later corrects itself; who is not in line any more is forgotten.
-- Crash: a gate that dies between taking and reporting leaves a lease; when it ends the letter is sent once more, with
--   the same message id, and not a third time.
if #KEYS ~= 8 or #ARGV ~= 7 then return redis.error_reply('BADARG count') end
for i = 1, 7 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local mail, mailto, mailing, mailed, line, silent, called, lobby = unpack(KEYS)
local now, near, lease_ms, letters_max, look_max, tries_max, keep_ms = unpack(ARGV)
now, near, lease_ms = tonumber(now), tonumber(near), tonumber(lease_ms)
letters_max, look_max, tries_max = tonumber(letters_max), tonumber(look_max), tonumber(tries_max)
if redis.call('ZCARD', mail) == 0 and redis.call('ZCARD', mailing) == 0 then return { 0, {} } end
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function forget(number)
  redis.call('ZREM', mail, number)
  redis.call('ZREM', mailing, number)
  redis.call('HDEL', mailto, number)
  redis.call('SADD', mailed, number)
end

local letters = {}
-- A letter that nobody reported on may have gone out: it is repeated once.
local after = { n = 's', f = 's', s = 'r' }
local function lease(number)
  local mark, tries, language, address = (redis.call('HGET', mailto, number) or ''):match('^(%l)(%d+)|(%l%l)|(.+)$')
  local next_mark = after[mark]
  if not next_mark or tonumber(tries) >= tries_max then return forget(number) end
  redis.call('HSET', mailto, number, next_mark .. (tries + 1) .. '|' .. language .. '|' .. address)
  redis.call('ZREM', mail, number)
  redis.call('ZADD', mailing, now + lease_ms, number)
  for _, part in ipairs({ number, tries + 1, language, address }) do letters[#letters + 1] = part end
end

local function waits(number)
  return redis.call('ZSCORE', line, number) or redis.call('ZSCORE', silent, number) or redis.call('ZSCORE', called, number)
end

for _, number in ipairs(redis.call('ZRANGEBYSCORE', mailing, '-inf', now, 'LIMIT', 0, letters_max)) do
  if waits(number) then lease(number) else forget(number) end
end
local more = 0
if near > 0 then
  local last = redis.call('ZRANGE', line, near - 1, near - 1, 'WITHSCORES')
  local edge = tonumber(last[2] or 'inf')
  local candidates = redis.call('ZRANGEBYSCORE', mail, '-inf', last[2] or '+inf', 'LIMIT', 0, look_max)
  if #candidates == look_max then more = 1 end
  for _, number in ipairs(candidates) do
    if #letters >= letters_max * 4 then break end
    local place = redis.call('ZSCORE', line, number)
    if place and tonumber(place) > edge then
      redis.call('ZADD', mail, place, number)
    elseif waits(number) then
      lease(number)
    elseif not redis.call('ZSCORE', lobby, number) then
      forget(number)
    end
  end
end
redis.call('PEXPIRE', mailing, keep_ms, 'NX')
redis.call('PEXPIRE', mailed, keep_ms, 'NX')
return { more, letters }
