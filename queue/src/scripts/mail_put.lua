-- mail_put: remembers where a visitor wants to be told that the turn is near.
--
-- Keys  1 mail (ZSET number → place)  2 mailto (HASH number → mark, tries, language, address)  3 mailing (ZSET)
--       4 mailed (SET)  5 line  6 silent (ZSETs)
-- Args  1 number   2 language, two letters   3 address   4 most addresses of a room   5 longest keeping in ms
-- Reply 1 when the address is remembered, 0 when a letter for this number is under way or was sent already
--       Error `FULL` beyond the most addresses.
-- Operation id: the number. A repeat puts the new address in the place of the old one; one number gets one letter.
-- Races: with mail_take.lua: whoever comes first; a letter that was taken goes to the address it was taken with.
-- Crash: all of it or nothing. Should no gate ever run again, the addresses expire.
if #KEYS ~= 6 or #ARGV ~= 5 then return redis.error_reply('BADARG count') end
for _, i in ipairs({ 1, 4, 5 }) do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
if not ARGV[2]:match('^%l%l$') then return redis.error_reply('BADARG 2') end
if #ARGV[3] > 254 or not ARGV[3]:match('^[%w%p]+@[%w%p]+$') or ARGV[3]:find('|', 1, true) then
  return redis.error_reply('BADARG 3')
end
local mail, mailto, mailing, mailed, line, silent = unpack(KEYS)
local number = ARGV[1]
if redis.call('SISMEMBER', mailed, number) == 1 then return 0 end
local known = redis.call('HGET', mailto, number)
if known then
  -- Only a letter that surely did not go out may be written anew, to the corrected address.
  if redis.call('ZSCORE', mailing, number) and known:sub(1, 1) ~= 'f' then return 0 end
  redis.call('ZREM', mailing, number)
elseif redis.call('HLEN', mailto) >= tonumber(ARGV[4]) then
  return redis.error_reply('FULL addresses')
end
local place = redis.call('ZSCORE', line, number) or redis.call('ZSCORE', silent, number) or 0
redis.call('ZADD', mail, place, number)
redis.call('HSET', mailto, number, 'n0|' .. ARGV[2] .. '|' .. ARGV[3])
for _, key in ipairs({ mail, mailto, mailing, mailed }) do
  redis.call('PEXPIRE', key, ARGV[5])
end
return 1
