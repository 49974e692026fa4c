-- Make a rebuilt context whole.
-- KEYS: the context. ARGV: the marker's field, the rebuild's token, the marker of a whole context,
--       milliseconds to live, then field, value, field, value ...
-- Answer: 1 when the context is whole now, 0 when it is gone or another rebuild has begun since: what the sink
-- stored meanwhile may then be missing from this one. Fields that the sink added stay.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
for index = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
