-- Replace what a turn reserved by what it used, once; it runs no more.
-- KEYS: the turn's answer; the subjects user, tenant, key; the user's running turns; what those hold.
-- ARGV: tokens used, turn id.
-- Answer: "running|quotas" after it, the same again when it comes again; empty when there is nothing to settle: the
-- turn was refused, or its grant is forgotten and what it held has leaked away.
local settled, charged, reserved = unpack(redis.call('HMGET', KEYS[1], 'settled', 'used', 'windows'))
-- A turn that was refused may still have been answered: its record came twice. The larger bill counts.
if settled and tonumber(charged) >= tonumber(ARGV[1]) then
  return settled
end
if not reserved then
  return ''
end
local turn = ARGV[2]
local now_us = server_now_us()
local windows = read_windows(reserved, now_us)
-- A turn that was taken for lost and comes after all got everything back before.
local held = held_by(turn)
for _, window in ipairs(windows) do
  local used = window.of_requests and 1 or tonumber(ARGV[1])
  local took = held and (window.of_requests and 1 or held.tokens) or 0
  if settled then
    took = window.of_requests and 1 or tonumber(charged)
  end
  correct(window, took, used, held and held.since_us or now_us, now_us)
end
let_go(turn)
write_windows(windows, now_us)
local running = redis.call('ZCOUNT', KEYS[5], '(' .. math.floor(now_us / 1000), '+inf')
local answer = running .. '|' .. told(windows)
-- The first answer stays: a turn that is delivered again must not be counted again.
redis.call('HSET', KEYS[1], 'settled', answer, 'used', ARGV[1])
return answer
