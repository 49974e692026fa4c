-- Replace a turn's reserved tokens by the tokens it used, once.
-- KEYS: the turn's reservation, the user's buckets, the tenant's buckets.
-- ARGV: tokens used, user requests limit, user tokens limit, tenant requests limit, tenant tokens limit (0: none).
-- Answer: 1 when it settled, 0 when there was nothing to settle (settled before, refused, or expired: what an
-- expired reservation held has leaked away since).
local reserved = redis.call('HGET', KEYS[1], 'tokens')
if not reserved then
  return 0
end
-- The answer stays: a turn that is delivered again must not be counted again.
redis.call('HDEL', KEYS[1], 'tokens')

local now_us = server_now_us()
local difference = tonumber(ARGV[1]) - tonumber(reserved)
for index, limits in ipairs({{ARGV[2], ARGV[3]}, {ARGV[4], ARGV[5]}}) do
  local subject = read_subject(KEYS[index + 1], tonumber(limits[1]), tonumber(limits[2]), now_us)
  add(subject.tokens, difference)
  write_subject(subject, now_us)
end
return 1
